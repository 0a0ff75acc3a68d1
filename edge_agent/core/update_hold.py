"""What ``update/hold`` says. It is unsigned, so it can only put off, and not for long."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from edge_agent.config.units import Duration
from edge_agent.core.rollout_window import parse_rfc3339

HOLD_MOST_NS = 24 * 3600 * 10**9


class _Hold(Struct, frozen=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    for_: str | None = None
    until: str | None = None


def parse_hold(payload: bytes, wall_ns: int) -> int | None:
    """Until when (wall clock) no update begins, at most 24 h from ``wall_ns``; None: go on. Raises ValueError that says
    what is allowed."""
    if not payload.strip() or payload.strip() == b"null":
        return None
    try:
        hold = msgspec.json.decode(payload, type=_Hold)
        if (hold.for_ is None) == (hold.until is None):
            raise ValueError
        until_ns = wall_ns + Duration.parse(hold.for_) if hold.for_ is not None else parse_rfc3339(hold.until or "")
    except (ValueError, RecursionError, OverflowError):
        expected = 'expected {"for": "2h"}, {"until": "2026-11-20T12:00:00Z"} or nothing'
        raise ValueError(f"{payload[:80]!r}: {expected}") from None
    return None if until_ns <= wall_ns else min(until_ns, wall_ns + HOLD_MOST_NS)
