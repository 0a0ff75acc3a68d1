"""What may be asked of the drift monitor over MQTT: ``request/drift-rebaseline`` and ``request/drift-silence``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from msgspec import Struct

from edge_agent.config.units import Duration
from edge_agent.core.wire import printable

SILENCE_MOST_NS: Final = 30 * 86400 * 10**9
REASON_MOST: Final = 200  # characters
SHOWN_MOST: Final = 60  # of a value in an answer


class Asked(Struct, frozen=True):
    """``pipelines``: all that are meant; ``for_ns``: of a silence, 0 ends it."""

    pipelines: tuple[str, ...]
    reason: str
    for_ns: int = 0


def parse_rebaseline(value: Any, known: Collection[str]) -> Asked:
    """{"reason": "new lens", "pipeline": "inspect"}; without a pipeline all of them. Raises ValueError that says what
    is allowed."""
    said = _object(value, ("reason", "pipeline"))
    return Asked(_pipelines(said, known), _reason(said))


def parse_silence(value: Any, known: Collection[str]) -> Asked:
    """{"for": "2h", "reason": "belt is cleaned", "pipeline": "inspect"}; "0s" ends a silence. Raises ValueError."""
    said = _object(value, ("for", "reason", "pipeline"))
    text = said.get("for")
    if text is None:
        raise ValueError('"for" is missing: how long, such as "2h"; "0s" ends a silence')
    try:
        for_ns = Duration.parse(text)
    except (TypeError, ValueError):
        raise ValueError(f'"for" is {_shown(text)}: expected {Duration.allowed}') from None
    if for_ns > SILENCE_MOST_NS:
        raise ValueError(f'"for" is {_shown(text)}: at most "30d"')
    return Asked(_pipelines(said, known), _reason(said), for_ns)


def _object(value: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() - set(keys):
        raise ValueError(f"Expected a JSON object with {', '.join(keys)}; pipeline may be left out")
    return value


def _pipelines(said: dict[str, Any], known: Collection[str]) -> tuple[str, ...]:
    name = said.get("pipeline")
    if name is None:
        return tuple(known)
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"no pipeline {_shown(name)}; known: {', '.join(known)}")
    return (name,)


def _reason(said: dict[str, Any]) -> str:
    reason = said.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError('"reason" is missing: it is kept, for whoever wonders later')
    return printable(reason.strip())[:REASON_MOST]


def _shown(value: object) -> str:
    """What a stranger sent, in one line of bounded length."""
    text = repr(value)
    return text if len(text) <= SHOWN_MOST else f"{text[:SHOWN_MOST]}…"
