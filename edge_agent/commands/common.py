"""What several modules of subcommands share: the parser with our exit code for bad usage, options, a check's result."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import ConfigError

DEFAULT_CONFIG = Path("/etc/edge-agent/agent.toml")
SERVICE_STATE = Path("/var/lib/edge-agent")  # systemd/edge-agent.service: StateDirectory


@dataclass(frozen=True, slots=True)
class Check:
    """Of ``doctor``. ``fix`` is what to do: a command that can be copied as it is, remarks behind ``#``, or a sentence
    where there is none."""

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


def look_at_service(config: Path) -> None:
    """The service's configuration means the service's state, which systemd names to the service alone. For commands
    that look at what a daemon left or do as it does, never for ``run``. Raises ConfigError where this user may not."""
    if config.absolute() != DEFAULT_CONFIG or os.environ.get("STATE_DIRECTORY") or not SERVICE_STATE.is_dir():
        return
    if not os.access(SERVICE_STATE, os.R_OK | os.X_OK):
        raise ConfigError(f"{SERVICE_STATE} belongs to the service; run this command with sudo")
    os.environ["STATE_DIRECTORY"] = str(SERVICE_STATE)


def add_json(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--json", action="store_true", help="print JSON instead of text, one object a line")
