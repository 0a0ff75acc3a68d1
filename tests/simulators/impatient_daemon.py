"""The real daemon, which tries a lost device again after a fraction of a second: ``python -m`` with agent.toml."""

from __future__ import annotations

import sys

from edge_agent import limits
from edge_agent.commands import run


def main(path: str) -> int:
    limits.DELEGATE_RETRY_FIRST_S = limits.DELEGATE_RETRY_LAST_S = 0.2  # type: ignore[misc]
    return run.main(["--config", path])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
