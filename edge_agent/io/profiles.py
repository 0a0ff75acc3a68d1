"""The device profiles that come with the package, and the one that fits a board. Reads ``device_profiles/`` only."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from edge_agent.config.profile import AUTO, Profile, best_profile, parse_profile, unknown_profile
from edge_agent.io.board import Board

if TYPE_CHECKING:  # at run time the module has another name from Python 3.14 on
    from importlib.abc import Traversable


def profile_names() -> tuple[str, ...]:
    return tuple(sorted(_files()))


def load_profile(name: str) -> Profile:
    """Raises ConfigError that lists the known names."""
    files = _files()
    if name not in files:
        raise unknown_profile(name, files)
    file = files[name]
    return parse_profile(file.read_text(encoding="utf-8"), name, f"device_profiles/{file.name}")


def find_profile(name: str, board: Board) -> Profile:
    """The profile of that name, or for "auto" the most specific one that fits the board. Raises ConfigError."""
    if name != AUTO:
        return load_profile(name)
    return best_profile(map(load_profile, profile_names()), board.model, board.arch, board.usb, board.pci)


def _files() -> dict[str, Traversable]:
    folder = resources.files("device_profiles")
    return {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}
