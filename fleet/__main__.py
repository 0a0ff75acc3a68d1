"""The command ``edge-fleet``, also ``python -m fleet``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_agent.command_line import run_program

COMMANDS = {
    "push": "a new model to devices, in one command: publish, rollout, serve, watch",
    "init": "make keys and a repository of models that devices trust",
    "publish": "check, sign and add a model",
    "rollout": "sign who gets a model, and how carefully; wake the devices",
    "pause": "no device begins with a rollout, until resume",
    "resume": "go on with a paused rollout",
    "promote": "a rollout to a larger share of its devices",
    "rollback": "the model before, signed again, to all that a rollout meant",
    "status": "what each device runs, and how far a rollout is",
    "watch": "the same, live; stops a rollout by itself when too many devices fail",
    "keys": "rotate, revoke or refresh the keys of a repository",
    "serve": "a repository over HTTP, and in pieces over MQTT",
    "collect": "subscribe and store what all devices say, each message once, in one SQLite file",
    "gaps": "what is missing in that file, by device, run and pipeline, and what the device says of it",
    "drift": "what all devices counted, added up, and which of them see something else than they learnt",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 good, 1 a bad result, 2 usage or a file that can't be used."""
    return run_program("edge-fleet", "fleet.commands", COMMANDS, argv, extra="fleet")


if __name__ == "__main__":
    sys.exit(main())
