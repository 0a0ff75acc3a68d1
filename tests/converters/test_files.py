"""Writing results: whole or not at all, and never in the place of something that is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from converters.files import check_output, write_whole
from edge_agent.errors import ConfigError


def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_pipe_or_a_device_is_refused_and_stays_what_it_was(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(ConfigError, match="not a regular file"):
            check_output(path)
    assert pipe.is_fifo()


def test_a_name_that_is_too_long_is_an_error_that_names_it_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be written"):
        write_whole(tmp_path / ("x" * 300), b"new")
    assert list(tmp_path.iterdir()) == []


def test_the_longest_allowed_name_is_written(tmp_path: Path) -> None:
    assert write_whole(tmp_path / ("x" * 255), b"new").bytes == 3
