"""One result of a cross-check."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from edge_agent.config.words import duration_text, show


class Finding(Struct, frozen=True):
    """``where`` is a key path, with its value where that helps; a fatal finding stops the start."""

    where: str
    text: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def at(where: str, value: Any) -> str:
    return f"{where} = {show(value)}"


def at_time(where: str, ns: int) -> str:
    return f"{where} = {show(duration_text(ns))}"
