"""File descriptor 2 around the C++ library: its INFO lines go, everything else stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.io.runtimes.native_log import without_chatter

CHATTER = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


def test_only_the_chatter_is_dropped(capfd):
    with without_chatter():
        os.write(2, b"before\n" + CHATTER + b"ERROR: no chip\nINFO: mine\n")
        assert capfd.readouterr().err == ""
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nERROR: no chip\nINFO: mine\nafter\n"


def test_standard_error_is_restored_when_the_block_fails(capfd):
    with pytest.raises(ValueError, match="inside"), without_chatter():
        os.write(2, b"last words\n")
        raise ValueError("inside")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "last words\nafter\n"


def test_no_descriptor_is_left_open():
    before = list(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with without_chatter():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_a_process_without_standard_error_is_left_alone():
    script = (
        "import os; os.close(2)\n"
        "from edge_agent.io.runtimes.native_log import without_chatter\n"
        "with without_chatter(): pass\n"
        "print('done')"
    )
    assert subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout == b"done\n"
