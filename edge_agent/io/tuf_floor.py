"""What TUF must not forget: a second copy of the newest timestamp and snapshot, and the version of the root.

TUF refuses older metadata than it holds, so whoever can empty its files (a power cut that zeroes them) could open the
way back. The copies are put back before the next check and judged by TUF itself: after the keys were rotated they do
not verify any more and count for nothing, which is how a repository leaves versions that a thief made too high.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from edge_agent.io.durable import write_whole

FLOOR: Final = "floor"  # no .json: the folder's .json files are TUF's metadata
KEPT: Final = ("timestamp.json", "snapshot.json")


class Floor(Struct, frozen=True, kw_only=True):
    """``bootstrap``: SHA-256 of the root that the device was given; ``root``: the newest version reached from it."""

    bootstrap: str = ""
    root: int = 0
    metadata: dict[str, str] = {}  # the files of KEPT as they were

    def least_root(self, bootstrap: bytes) -> int:
        """The version that the repository must still lead to. A device that was given another root begins anew."""
        return self.root if self.bootstrap == hashlib.sha256(bootstrap).hexdigest() else 0


def restore(folder: Path) -> Floor:
    """Put back what is older or damaged in TUF's folder. A floor that is damaged itself counts as none: TUF's own files
    are the other copy. Raises OSError."""
    floor = _load(folder / FLOOR)
    for name, content in floor.metadata.items():
        kept = content.encode()
        if name in KEPT and _version(kept) > _version(_bytes(folder / name)):
            write_whole(folder / name, kept)
    return floor


def keep(folder: Path, bootstrap: bytes, root: int, before: Floor) -> None:
    """Write down what TUF trusts now, after its own files are on the disk. Raises OSError."""
    files = {name: _bytes(folder / name) for name in KEPT}
    floor = Floor(
        bootstrap=hashlib.sha256(bootstrap).hexdigest(),
        root=max(root, before.least_root(bootstrap)),
        # what can't be read just now is kept as it was
        metadata={
            **before.metadata,
            **{name: content.decode() for name, content in files.items() if _version(content)},
        },
    )
    if floor != before:
        body = msgspec.json.encode(floor)
        write_whole(folder / FLOOR, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def _load(path: Path) -> Floor:
    checksum, _, body = _bytes(path).partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != checksum:
        return Floor()
    try:
        return msgspec.json.decode(body, type=Floor)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Floor()


def _bytes(path: Path) -> bytes:
    """Empty where there is none, or the disk can't read it any more."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _version(content: bytes) -> int:
    """0: not metadata. Nothing is verified here: what is on the disk was, and will be again."""
    try:
        version = json.loads(content)["signed"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return version if isinstance(version, int) else 0
