"""How a change of level is told."""

from __future__ import annotations

import pytest

from edge_agent.core.drift.reasons import days_text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(14 * 86400, "14 days"), (129_600, "36 h"), (5400, "90 min"), (60.48, "60 s"), (8.64, "8.6 s"), (0, "0 s")],
)
def test_a_length_is_told_in_a_unit_of_its_size(seconds: float, said: str) -> None:
    assert days_text(seconds / 86400) == said
