"""A child of the daemon that has time: whatever runs meanwhile comes first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

BEHIND: Final = 10
"""Of nice: a tenth of the processor against whoever wants all of it (sched(7): each step is a factor of 1.25)."""


def put_behind(pid: int) -> None:
    """Let that child, the leader of a session of its own, run behind everybody else, with all that it starts from now
    on. Done from outside, it holds for the child's imports, too: they take longer than its work. A kernel that refuses
    still runs the child."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, BEHIND)
    # the kernel shares out between sessions first, and a new session begins at 0 (sched(7), the autogroup feature)
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(BEHIND))
