"""What every sensor adapter is given, and the few words they share.

An adapter hands over raw values by field name; scale, unit and range are the converter's business, never its own.
"""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from edge_agent.config.schema import SensorConfig
from edge_agent.ports import Clock, MessageHandler

UNREADABLE_CHARS = 80  # of a line or payload that can't be read, enough to recognise it by


class SensorContext(Struct, frozen=True):
    """``folder`` is the configuration file's: relative paths start there. ``stopping`` ends every wait early.

    ``subscribe`` is None where there is no broker connection (``check``, ``doctor``).
    """

    clock: Clock
    folder: Path
    stopping: threading.Event
    subscribe: Callable[[str, MessageHandler], None] | None = None


def selectors(config: SensorConfig) -> dict[str, str]:
    """Field name -> what is read for it: its ``select``, or else its own name."""
    return {name: name if field.select is None else field.select for name, field in config.fields.items()}


def unreadable(config: SensorConfig, text: str) -> dict[str, object]:
    """The values of a delivery that can't be read: every field says so, with the start of the text.

    The prefix matters: the text alone could be a number, and would then pass for every field's value.
    """
    return dict.fromkeys(config.fields, f"unreadable: {text[:UNREADABLE_CHARS]}")


def choices(word: str, allowed: Iterable[str]) -> str:
    """The end of an error message: what is allowed and, where one is near, which was probably meant."""
    names = sorted(allowed)
    near = difflib.get_close_matches(word, names, n=1)
    return f"allowed: {', '.join(names) or 'none'}" + (f"; nearest: {near[0]}" if near else "")


def source_of(config: SensorConfig) -> str:
    """The start of an error message."""
    return f'sensor "{config.name}": source "{config.source}"'
