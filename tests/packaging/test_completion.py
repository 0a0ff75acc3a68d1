"""The completion for bash knows what the program knows: every command, option and choice, read from the parsers."""

from __future__ import annotations

import argparse
import importlib
import subprocess
from pathlib import Path

import pytest

from edge_agent.__main__ import COMMANDS

COMPLETION = Path(__file__).resolve().parents[2] / "packaging/debian/edge-agent.bash-completion"


def complete(*words: str, folder: Path | None = None) -> set[str]:
    """What bash offers for the last of ``words``."""
    script = (
        f'. {COMPLETION}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _edge_agent; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    command = ["bash", "-c", script, "bash", "edge-agent", *words]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.split())


class _StopError(Exception):
    pass


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    """The parser that the command would read its arguments with."""
    found: list[argparse.ArgumentParser] = []

    def parse_args(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.append(self)
        raise _StopError

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        with pytest.raises(_StopError):
            importlib.import_module(f"edge_agent.commands.{command}").main([])
    return found[0]


def test_every_command_is_offered() -> None:
    assert complete("") == {*COMMANDS, "--help", "--version"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_choice_of_a_command_is_offered(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    actions = parser_of(command, monkeypatch)._actions
    assert complete(command, "-") == {name for action in actions for name in action.option_strings if len(name) > 2}
    for action in actions:
        if action.choices and action.option_strings:
            assert complete(command, action.option_strings[-1], "") == set(action.choices)
        elif action.choices:
            assert complete(command, "") == set(action.choices)


def test_file_names_are_offered_where_one_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "model.tflite").touch()
    for words in (["predict"], ["predict", "--json"], ["check", "--config"], ["models", "verify"]):
        assert complete(*words, "mo", folder=tmp_path) == {"model.tflite"}
    assert complete("watch", "--host", "mo", folder=tmp_path) == set()
