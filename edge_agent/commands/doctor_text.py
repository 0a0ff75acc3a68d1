"""How ``edge-agent doctor`` reads in a terminal: what was found, then what to do about it, in order."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from edge_agent.commands.common import Check

_ID: Final = 16
_LEFT: Final = " " * (6 + _ID)


@dataclass(frozen=True, slots=True)
class Delegate:
    name: str
    usable: bool
    reason: str


def doctor_text(checks: Sequence[Check], delegates: Sequence[Delegate], chosen: str | None, width: int) -> str:
    """``width``: of the terminal in characters. A command is never broken: it is there to be copied."""
    lines = [line for check in checks for line in _found(check, width)]
    lines += ["", "back-ends, in order"]
    for delegate in delegates:
        mark = "used" if delegate.name == chosen else ("works" if delegate.usable else "no")
        lines += _wrapped(f"{mark:<6}{delegate.name:<{_ID}}", delegate.reason, width)
    return "\n".join([*lines, "", *_to_do(checks, width)])


def _found(check: Check, width: int) -> Iterator[str]:
    yield from _wrapped(f"{check.status:<6}{check.id:<{_ID}}", check.detail, width)
    if check.fix and check.status in ("ok", "skip"):  # a remark; what is to be done follows below
        yield from _wrapped(_LEFT, check.fix, width)


def _to_do(checks: Sequence[Check], width: int) -> Iterator[str]:
    """First what keeps the daemon from working, then the rest, each in the order of the checks: a step may need those
    before it."""
    due = [check for status in ("fail", "warn") for check in checks if check.status == status and check.fix]
    if not due:
        yield "nothing to do"
        return
    yield "to do, in this order"
    for number, check in enumerate(due, 1):
        must = "" if check.status == "fail" else " (advice)"
        yield from _wrapped(f"{number:>3}. ", f"{check.id}{must}: {check.detail}", width)
        yield f"     {check.fix}"


def _wrapped(head: str, text: str, width: int) -> list[str]:
    whole = textwrap.wrap(
        text,
        max(width, 60),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return whole or [head.rstrip()]
