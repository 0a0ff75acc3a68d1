"""What a cut leaves of a disk with a write cache, with writes and flushes that are known."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.system.volatile_disk import BLOCK, Cut, Fate, VolatileDisk

pytestmark = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="not installed: qemu-utils")

BLOCKS = 64
FLUSHED, LATER = b"\1", b"\2"


@pytest.fixture
def disk(tmp_path: Path) -> VolatileDisk:
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(2 * BLOCKS * BLOCK))
    return VolatileDisk(base, tmp_path / "disk")


def write_and_die(disk: VolatileDisk) -> None:
    """64 blocks of 1 and a flush, 64 blocks of 2 behind them, and SIGKILL."""
    size = BLOCKS * BLOCK
    steps = [f"write -P 1 0 {size}", "flush", f"write -P 2 {size} {size}", "sigraise 9"]
    commands = [part for step in steps for part in ("-c", step)]
    done = subprocess.run(
        ["qemu-io", *commands, f"json:{json.dumps(disk.drive())}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr


def blocks(disk: VolatileDisk) -> list[bytes]:
    """The first byte of each block; all of its bytes are the same."""
    content = disk.path.read_bytes()
    parts = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
    assert all(part == part[:1] * BLOCK for part in parts)
    return [part[:1] for part in parts]


@pytest.mark.parametrize(("fate", "left"), [("kept", LATER), ("lost", b"\0")])
def test_what_was_flushed_is_there_and_the_rest_as_fate_has_it(disk: VolatileDisk, fate: Fate, left: bytes) -> None:
    write_and_die(disk)
    size = BLOCKS * BLOCK
    assert disk.cut(fate, random.Random(1)) == Cut(2 * size, 1, size, size if fate == "lost" else 0)
    assert blocks(disk) == [FLUSHED] * BLOCKS + [left] * BLOCKS


def test_a_torn_write_is_there_in_part_and_a_second_cut_goes_on_from_there(disk: VolatileDisk) -> None:
    write_and_die(disk)
    torn = disk.cut("torn", random.Random(1))
    left = blocks(disk)
    assert left[:BLOCKS] == [FLUSHED] * BLOCKS
    assert set(left[BLOCKS:]) == {LATER, b"\0"}
    assert torn.lost == left.count(b"\0") * BLOCK
    assert disk.cut("lost", random.Random(1)) == Cut(0, 0, 0, 0)
    assert blocks(disk) == left
