"""What several modules of subcommands share: the parser with our exit code for bad usage, options, a check's result."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/edge-agent/agent.toml")


@dataclass(frozen=True, slots=True)
class Check:
    """Of ``doctor``. ``fix`` is what to do, with the command where there is one."""

    id: str
    status: str  # ok | warn | fail | skip
    detail: str
    fix: str = ""


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser of the subcommand; argparse exits with 2 on bad usage, as the contract wants. Options are
    written out: a short form would change its meaning with the next option that begins like it."""
    return argparse.ArgumentParser(prog=f"edge-agent {name}", description=description, allow_abbrev=False)


def add_config(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"configuration (default {DEFAULT_CONFIG})"
    )


def add_json(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--json", action="store_true", help="print JSON instead of text, one object a line")
