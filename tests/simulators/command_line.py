"""``edge-agent`` as a user types it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LIMIT_S = 120


def edge_agent(cache: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run to its end. ``cache`` is where results of probes are remembered."""
    command: Sequence[str | Path] = [sys.executable, "-m", "edge_agent", *arguments]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LIMIT_S, check=False)
