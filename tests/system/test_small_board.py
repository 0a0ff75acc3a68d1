"""The example on a board with 512 MB, no swap and a quarter of one core, emulated by control groups: it keeps its rate
or lowers it by rule, and stays within the memory that such a board can give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.simulators.control_group import unavailable
from tests.simulators.small_run import RATE, SmallRun, predicted, small_run
from tests.simulators.waiting import wait_for

MEMORY_MOST_MB = 160

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]


def wait_overload(run: SmallRun, there: bool, limit_s: float) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        stats = run.stats()
        return stats if (stats["overload"]["inspect"] > 1) is there else None

    return wait_for(found, f"the rate is {'lowered' if there else 'whole again'}", limit_s)


def test_the_example_keeps_its_rate_or_lowers_it_by_rule_within_the_memory_of_a_small_board(tmp_path: Path) -> None:
    with small_run(tmp_path, core=0.25) as run:
        run.over(15)  # the start is over, and one window of the rule
        begin, end = run.over(20)
        factor = end["overload"]["inspect"]
        lowered = factor > 1 and run.subscriber.events("overloaded")
        assert predicted(begin, end) > 0.9 * RATE or lowered, (begin, end)
        assert run.daemon_peak_mb < MEMORY_MOST_MB
        assert run.memory.most_mb < MEMORY_MOST_MB
        assert (run.board.killed(), run.board.swapped_mb()) == (0, 0.0)
        assert end["memory_limit_mb"] == 512
        assert end["crashes"] == dict.fromkeys(end["crashes"], 0)


@pytest.mark.soak
def test_a_core_that_is_too_slow_lowers_the_rate_and_gives_it_back_when_it_is_fast_again(tmp_path: Path) -> None:
    """Minutes, as the rule wants it: a minute of room before the rate rises."""
    with small_run(tmp_path, core=0.5) as run:
        run.board.core(0.02)
        slow = wait_overload(run, there=True, limit_s=180)
        (event,) = run.subscriber.events("overloaded")
        assert event["subject"] == "inspect"
        assert "down to rate_floor" in event["detail"]
        assert slow["overload"]["inspect"] <= RATE  # rate_floor is 1/s
        run.board.core(0.5)
        wait_overload(run, there=False, limit_s=600)
        wait_for(lambda: run.subscriber.events("overload_over"), "the end is told")
        begin, end = run.over(10)
        assert predicted(begin, end) > 0.9 * RATE
        assert run.board.killed() == 0
