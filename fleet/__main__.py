"""The command ``edge-fleet``, also ``python -m fleet``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_agent.command_line import run_program

COMMANDS = {
    "collect": "subscribe and store what all devices say, each message once, in one SQLite file",
    "gaps": "what is missing in that file, by device, run and pipeline, and what the device says of it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 good, 1 a bad result, 2 usage or a file that can't be used."""
    return run_program("edge-fleet", "fleet.commands", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
