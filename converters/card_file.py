"""A card as a file of its own: TOML or JSON, read, checked and written.

The same keys as in [model.NAME.card] and in edge-agent/card.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config.convert import parse_toml
from edge_agent.core.card_schema import Card
from edge_agent.core.card_sources import lines
from edge_agent.core.model_card import checked_card
from edge_agent.errors import ConfigError

_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def read_card(card: Path | dict[str, Any] | None) -> tuple[dict[str, Any], str, Path]:
    """(the card, how messages name it, the folder where its files of labels lie). Raises ConfigError."""
    if card is None:
        return {}, "--card FILE", Path()
    if isinstance(card, dict):
        checked_card(card, "the card", ConfigError)
        return card, "the card", Path()
    raw = _parsed(card)
    checked_card(raw, str(card), ConfigError)
    return raw, str(card), card.parent


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    if path.suffix != ".json":
        return parse_toml(text, str(path))
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected an object with keys such as task, inputs and outputs")
    return raw


def read_labels(path: Path) -> tuple[str, ...]:
    """One label a line. Raises ConfigError."""
    return lines(labels_text(path))


def labels_text(path: Path) -> str:
    """The text of a file of labels. Raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: the labels can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the labels are not UTF-8 text; give a file with one label a line") from None


def card_toml(card: Card) -> str:
    """The card as TOML that a person can go on with."""
    import tomli_w

    return tomli_w.dumps(card_builtins(card))


def card_builtins(card: Card) -> dict[str, Any]:
    """The card as plain lists and dictionaries, as it is read."""
    plain: dict[str, Any] = json.loads(msgspec.json.encode(card))
    return {"schema": card.schema, **plain}


def edited(card: Card, assignments: Sequence[str]) -> Card:
    """The card with "KEY=VALUE" done to it: keys as in messages, such as outputs[0].threshold; values as in TOML, any
    other text is a string. Raises ConfigError."""
    plain = card_builtins(card)
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator:
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, such as --set version=1.2.0")
        _assign(plain, key.strip(), _value(text.strip()), assignment)
    return checked_card(plain, "--set", ConfigError)


def _assign(plain: Any, key: str, value: object, assignment: str) -> None:
    steps: list[str | int] = [int(index) if index else name for index, name in _STEP.findall(key)]
    try:
        for step in steps[:-1]:
            # a table that the card left out is begun
            plain = plain.setdefault(step, {}) if isinstance(plain, dict) else plain[step]
        plain[steps[-1]] = value
    except (LookupError, TypeError, AttributeError):
        raise ConfigError(
            f"--set {assignment}: the card has no place {key!r}; `edge-convert card write` shows it"
        ) from None


def _value(text: str) -> object:
    try:
        return parse_toml(f"value = {text}", "--set")["value"]
    except ConfigError:
        return text
