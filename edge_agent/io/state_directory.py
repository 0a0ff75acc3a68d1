"""Where a daemon keeps what it learns: in the folder that systemd names to the service, else in the user's own."""

from __future__ import annotations

import os
from pathlib import Path


def state_directory(device: str) -> Path:
    """For what must not be lost. The daemons of one user are told apart by their device."""
    return _of_service() or _of_user("XDG_STATE_HOME", ".local/state") / device


def cache_directory() -> Path:
    """For what can be found out again."""
    return _of_service() or _of_user("XDG_CACHE_HOME", ".cache")


def _of_service() -> Path | None:
    """systemd separates several by colons; ours has one."""
    state = os.environ.get("STATE_DIRECTORY")
    return Path(state.split(":")[0]) if state else None


def _of_user(variable: str, usual: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / usual) / "edge-agent"
