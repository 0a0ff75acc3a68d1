"""What is signed with a model for good, as an option of ``publish`` and ``push``."""

from __future__ import annotations

import argparse

from edge_agent.config.words import choices
from edge_agent.io.profiles import profile_names


def add_profiles(arguments: argparse.ArgumentParser) -> None:
    """``profiles``: names of device profiles, empty for all."""
    arguments.add_argument(
        "--profiles",
        type=_profiles,
        action="extend",
        default=[],
        metavar="A,B",
        help="boards that may run it, such as raspberry-pi-5 (default: all)",
    )


def _profiles(text: str) -> list[str]:
    """A name with a typing error would shut out every device, and is signed for good."""
    names = text.split(",")
    for name in names:
        if name not in (known := profile_names()):
            raise argparse.ArgumentTypeError(f"{name!r}: no such profile{choices(name, known)}")
    return names
