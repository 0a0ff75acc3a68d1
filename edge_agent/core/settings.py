"""The settings that may be changed over MQTT, and the text or JSON that says so.

A command is the bare value ("5/s", 0.7, true) or an object {"value": …, "expires": RFC 3339, "transaction": …}.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.config.schema import PublishConfig
from edge_agent.config.units import Rate, decode_quantity

NESTING_MOST = 64  # brackets in one command: a setting has one or two, and the answer repeats the transaction
SLOWEST_RATE = 1 / 86400  # as in the configuration: one frame a day, slower is a mistake in the unit
INTERVAL_NS = (10**6, 86400 * 10**9)  # as in the configuration
REASON_MOST = 200  # characters of a stranger's text in an answer, an event and the log


class Command(Struct, frozen=True):
    """One command as received. ``expires_ns`` is wall time."""

    value: Any
    transaction: Any = None
    expires_ns: int | None = None


def parse_command(payload: bytes) -> Command:
    """Text that is not JSON is taken as the text itself. Raises ValueError for what no command looks like."""
    if payload.count(b"[") + payload.count(b"{") > NESTING_MOST:
        raise ValueError(f"Expected at most {NESTING_MOST} brackets")
    try:
        value = msgspec.json.decode(payload)
    except msgspec.DecodeError:
        value = payload.decode("utf-8", "replace").strip()
    if not isinstance(value, dict):
        return Command(value)
    if value.keys() & {"value", "transaction", "expires"} and not value.keys() - {"value", "transaction", "expires"}:
        return Command(value.get("value"), value.get("transaction"), _instant(value.get("expires")))
    return Command(value)


def parse_rate(value: Any) -> Rate:
    if not isinstance(value, str):
        raise ValueError(f"Expected {Rate.allowed}")
    rate = Rate.parse(value)
    if rate < SLOWEST_RATE:
        raise ValueError("Expected at least one frame a day")
    return rate


def parse_publish(value: Any) -> PublishConfig:
    raw = {"mode": value} if isinstance(value, str) else value
    allowed = 'Expected "every", "change", "interval" or {"mode": …, "interval": "2s", "deadband": 0.1}'
    try:
        config = msgspec.convert(raw, PublishConfig, dec_hook=decode_quantity)
    except msgspec.ValidationError as error:
        raise ValueError(f"{allowed}: {_one_line(str(error))}") from None
    if not INTERVAL_NS[0] <= config.interval <= INTERVAL_NS[1]:
        raise ValueError(f"{allowed}: the interval is from 1 ms to 1 day")
    return config


def parse_threshold(value: Any) -> float | None:
    if value is None:  # what ``setting`` says where nobody set one
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("Expected a number from 0 to 1")
    return float(value)


def parse_paused(value: Any) -> bool:
    words = {"true": True, "on": True, "false": False, "off": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("Expected true or false")


PARSERS: dict[str, Callable[[Any], Any]] = {
    "rate": parse_rate,
    "publish": parse_publish,
    "threshold": parse_threshold,
    "paused": parse_paused,
}
"""Setting name -> the function that checks its value; the list of the settings that exist."""


def jsonable(value: Any) -> object:
    """A setting's value as the ``setting`` topic shows it."""
    if isinstance(value, Rate):
        return str(value)
    if isinstance(value, PublishConfig):
        return {"mode": value.mode, "interval": f"{value.interval / 1e9:g}s", "deadband": value.deadband}
    return value


def _one_line(text: str) -> str:
    """What a stranger sent can't begin a line of the log, nor fill it."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= REASON_MOST else shown[:REASON_MOST] + "…"


def _instant(text: Any) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise ValueError('"expires" must be a time such as "2026-01-31T12:00:00Z"') from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return int(when.timestamp() * 1e9)
