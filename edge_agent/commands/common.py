"""What several subcommands share: the configuration option and the parser with our exit code for bad usage."""

from __future__ import annotations

import argparse
from pathlib import Path

DEFAULT_CONFIG = Path("/etc/edge-agent/agent.toml")


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser of the subcommand; argparse exits with 2 on bad usage, as the contract wants."""
    return argparse.ArgumentParser(prog=f"edge-agent {name}", description=description)


def add_config(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help=f"configuration (default {DEFAULT_CONFIG})"
    )


def add_json(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--json", action="store_true", help="print JSON instead of text, one object a line")
