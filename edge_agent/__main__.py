"""The command ``edge-agent``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_agent.command_line import run_program

COMMANDS = {
    "run": "run the daemon in the foreground",
    "check": "validate the configuration; --devices also opens each device once",
    "doctor": "say what this machine has and what would be used, and how to mend what is missing",
    "predict": "run one sample through a model",
    "bench": "compare the bare interpreter with the whole path",
    "drift": "show what was found of drift, data quality and labels",
    "ledger": "show what waits on the disk, and what became of everything, run by run",
    "models": "models over the air: list, pin, roll back, verify, install from a folder",
    "samples": "list what was kept for labelling and retraining, and export it",
    "watch": "subscribe to the predictions and print them",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 good, 1 a bad result, 2 usage or configuration, 3 a device is absent."""
    return run_program("edge-agent", "edge_agent.commands", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(main())
