"""What several subcommands share: the parser with our exit code for bad usage, and options that mean the same."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.config.units import Duration


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser of the subcommand; argparse exits with 2 on bad usage, as the contract wants. Options are
    written out: a short form would change its meaning with the next option that begins like it."""
    return argparse.ArgumentParser(prog=f"edge-fleet {name}", description=description, allow_abbrev=False)


def add_database(arguments: argparse.ArgumentParser, text: str) -> None:
    arguments.add_argument("--db", type=Path, required=True, metavar="FILE", help=text)


def add_json(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--json", action="store_true", help="print JSON instead of text, one object a line")


def duration(text: str) -> Duration:
    """A time with its unit, for argparse."""
    try:
        return Duration.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {Duration.allowed}") from None
