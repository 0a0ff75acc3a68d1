"""The real daemon, whose updater stumbles: ``python -m`` with

    agent.toml ACTION...

Each of these actions (a name of core/rollout_steps.py), as often as it is named, raises an error that nobody expects
instead of being done. A worker that failed is started again sooner than it would be.
"""

from __future__ import annotations

import errno
import sys

from edge_agent import limits
from edge_agent.commands import run
from edge_agent.core.rollout_steps import Action
from edge_agent.updating.worker import Updater


def main(path: str, *actions: str) -> int:
    left, act = list(actions), Updater._act

    def stumble(updater: Updater, action: Action) -> None:
        name = type(action).__name__
        if name in left:
            left.remove(name)
            raise OSError(errno.EMFILE, f"no descriptor is left for {name}")
        act(updater, action)

    Updater._act = stumble
    limits.BACKOFF_FIRST_S = limits.BACKOFF_LAST_S = 0.02
    return run.main(["--config", path])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
