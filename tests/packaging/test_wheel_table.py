"""The tables of docs/boards.md: what is asked of pip, and what becomes of the answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "packaging"))

import wheel_table  # noqa: E402

from edge_agent.io.profiles import load_profile, profile_names  # noqa: E402

PI = ("3.11", "2.36", "arm64")


def test_the_requirements_are_those_of_setup_cfg_without_markers() -> None:
    wanted = wheel_table.requirements()
    assert "tomli>=2" in wanted
    assert not any(";" in item or "#" in item for item in wanted)
    assert {wheel_table.name_of(item) for item in wanted} >= {"ai-edge-litert", "numpy", "msgspec", "tuf"}


@pytest.mark.parametrize(
    ("key", "best", "count"),
    [
        (PI, "manylinux_2_36_aarch64", 36 - 17 + 1 + 2),
        (("3.7", "2.28", "arm64"), "manylinux_2_28_aarch64", 28 - 17 + 1 + 2),
        (("3.13", "2.41", "armhf"), "manylinux_2_41_armv7l", 41 - 17 + 1 + 2),
    ],
)
def test_every_tag_up_to_the_system_s_c_library_is_asked_for(key, best, count) -> None:
    names = wheel_table.platforms(key)
    assert (names[0], len(names), names[-1]) == (best, count, "any")


def pip(monkeypatch: pytest.MonkeyPatch, there: dict[str, str]) -> list[list[str]]:
    """A registry with these versions: the constraint of a requirement counts by its first number."""
    asked = []

    def ask(_key, wanted):
        asked.append(list(wanted))
        found = {}
        for item in wanted:
            name, least = wheel_table.name_of(item), re.search(r">=(\d+)", item)
            version = there.get(name)
            if version is None or (least and int(version.split(".")[0]) < int(least[1])):
                return None
            found[name] = version
        return found

    monkeypatch.setattr(wheel_table, "ask", ask)
    return asked


def test_a_system_that_has_everything_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = pip(monkeypatch, {"a": "2.0", "b": "7"})
    assert wheel_table.wheels_for(PI, ["a>=1", "b"]) == {"a": "yes", "b": "yes"}
    assert len(asked) == 1


def test_what_is_missing_and_what_is_too_old_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pip(monkeypatch, {"a": "2.0", "old": "1.5"})
    assert wheel_table.wheels_for(PI, ["a>=1", "old>=2", "none"]) == {"a": "yes", "old": "1.5 at most", "none": "no"}


def test_pip_that_can_t_ask_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "ERROR: Could not fetch: Connection refused")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_more: done)
    with pytest.raises(RuntimeError, match="Connection refused"):
        wheel_table.ask(PI, ["numpy"])


def test_the_document_has_both_tables_and_every_board_in_them() -> None:
    text = wheel_table.DOCUMENT.read_text()
    profiles = [load_profile(name) for name in profile_names()]
    boards = wheel_table.board_table(profiles)
    assert wheel_table.replaced(text, {"boards": boards}) == text
    rows = re.search(r"<!-- wheels: .*?-->\n(.*?)\n<!-- end -->", text, re.DOTALL)
    assert rows
    assert len(rows[1].splitlines()) == 2 + len(wheel_table.systems(profiles))


def test_a_document_without_a_place_for_a_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 places for the table 'boards'"):
        wheel_table.replaced("# Boards\n", {"boards": ["|x|"]})


@pytest.mark.soak
def test_the_wheels_are_as_the_document_says() -> None:
    """Minutes, and the network: pip is asked for every system."""
    command = [sys.executable, "-m", "wheel_table", "--check"]
    here = {**os.environ, "PYTHONPATH": str(ROOT / "packaging")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=here, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
