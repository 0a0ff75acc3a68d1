"""Waiting for a condition, with a generous limit and the state at its end in the message."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
LIMIT_S = 60.0


def wait_for(condition: Callable[[], T], what: str, limit_s: float = LIMIT_S) -> T:
    """The first true value of ``condition``; AssertionError when there is none in time."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s:g} s: {what}; last seen: {value!r}")
        time.sleep(0.02)
