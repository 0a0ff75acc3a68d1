"""A disk with a write cache that a power cut empties.

Killing QEMU alone loses nothing that the machine had written: the host's page cache has it. So QEMU also keeps a log
of all writes and flushes (its driver ``blklogwrites``, in the format of the kernel's dm-log-writes), and ``cut`` makes
the disk that a cut would leave: all that was written before the last completed flush, and of the later writes what
the fate decides, in blocks of 4 KiB.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

Fate = Literal["kept", "lost", "torn"]
"""Of what was written after the last flush: all of it is there, nothing, or some of its blocks."""

BLOCK = 4096
SECTOR = 512
# drivers/md/dm-log-writes.c: the head of the file, and of each entry; each fills one sector.
HEAD = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4


class Write(NamedTuple):
    sector: int
    sectors: int
    flags: int
    offset: int  # of the data in the log, in bytes


class Cut(NamedTuple):
    """What one cut met: bytes written since the last one, and how many of them came after the last flush."""

    written: int
    flushes: int
    unflushed: int
    lost: int


class VolatileDisk:
    """``path`` is the disk; it starts as a copy of ``base`` (a raw image)."""

    def __init__(self, base: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "disk.raw"
        self._log = folder / "writes.log"
        # What the last cut left; the machine writes to its copy.
        self._before = folder / "before.raw"
        _copy(base, self.path)
        self._begin()

    def drive(self) -> dict[str, Any]:
        """What QEMU is told of it. The host need not sync: its power stays on."""
        file, log = (
            {"driver": "file", "filename": str(path), "cache": {"no-flush": True}} for path in (self.path, self._log)
        )
        return {"driver": "blklogwrites", "file": file, "log": log, "log-sector-size": SECTOR}

    def cut(self, fate: Fate, chance: random.Random) -> Cut:
        """After QEMU was killed: leave on the disk what the fate leaves, and begin a new log."""
        with self._log.open("rb") as log:
            entries = list(_entries(log))
            last = max((number for number, entry in enumerate(entries) if entry.flags & FLUSH), default=-1)
            pending = [entry for entry in entries[last + 1 :] if entry.sectors]
            lost = 0
            with self._before.open("r+b") as disk:
                for entry in entries[: last + 1]:
                    _play(entry, log, disk)
                for entry in pending:
                    lost += _play_some(entry, log, disk, fate, chance)
        self._before.replace(self.path)
        self._begin()
        return Cut(
            sum(entry.sectors for entry in entries) * SECTOR,
            sum(1 for entry in entries if entry.flags & FLUSH),
            sum(entry.sectors for entry in pending) * SECTOR,
            lost,
        )

    def remove(self) -> None:
        for path in (self.path, self._log, self._before):
            path.unlink(missing_ok=True)

    def _begin(self) -> None:
        _copy(self.path, self._before)
        self._log.write_bytes(b"")


def _copy(source: Path, target: Path) -> None:
    command = ["cp", "--reflink=auto", "--sparse=always", str(source), str(target)]
    subprocess.run(command, check=True)


def _entries(log: BinaryIO) -> Iterator[Write]:
    """All whole entries. The head's count is behind at a kill, so the log is read to its end."""
    head = log.read(SECTOR)
    if len(head) < SECTOR:
        return
    magic, version, _, sector_size = HEAD.unpack_from(head)
    assert (magic, version, sector_size) == (MAGIC, 1, SECTOR), "not a log of writes"
    end = log.seek(0, 2)
    at = SECTOR
    while at + SECTOR <= end:
        log.seek(at)
        sector, sectors, flags, _ = ENTRY.unpack(log.read(ENTRY.size))
        if not sectors and not flags:
            return  # room for an entry that had not been written when QEMU was killed
        has_data = not flags & DISCARD
        data = at + SECTOR
        at = data + (sectors * SECTOR if has_data else 0)
        if at <= end:
            yield Write(sector, sectors if has_data else 0, flags, data)


def _play(entry: Write, log: BinaryIO, disk: BinaryIO) -> None:
    log.seek(entry.offset)
    disk.seek(entry.sector * SECTOR)
    disk.write(log.read(entry.sectors * SECTOR))


def _play_some(entry: Write, log: BinaryIO, disk: BinaryIO, fate: Fate, chance: random.Random) -> int:
    """Returns how many bytes were lost."""
    lost = 0
    for start in range(0, entry.sectors * SECTOR, BLOCK):
        size = min(BLOCK, entry.sectors * SECTOR - start)
        if fate == "kept" or (fate == "torn" and chance.random() < 0.5):
            part = entry._replace(
                sector=entry.sector + start // SECTOR, sectors=size // SECTOR, offset=entry.offset + start
            )
            _play(part, log, disk)
        else:
            lost += size
    return lost
