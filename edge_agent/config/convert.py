"""Raw TOML in, frozen structs out, or one ConfigError that names file, key, value and what is allowed.

Nothing that TOML can write gets past here as anything but a value of the schema or a ConfigError.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from edge_agent.config.explain import first_problem
from edge_agent.config.units import Duration, decode_quantity
from edge_agent.config.words import key_path, show
from edge_agent.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)

# Ten years: beyond any use, and still far inside what the waits of an operating system can count.
_LONGEST = Duration(3650 * 86400 * 10**9)
_LINES_ALLOWED = {"source", "pattern"}  # a GStreamer pipeline or a verbose pattern may run over several lines


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The raw tree. Raises ConfigError with line and column."""
    toml = _toml_library()
    try:
        tree: dict[str, Any] = toml.loads(text)
    except RecursionError:
        raise ConfigError(f"{file}: values are nested too deeply") from None
    except ValueError as error:
        found = re.fullmatch(r"(.*) \(at (.*)\)", str(error), re.DOTALL)
        what, place = (found[1], found[2]) if found else (str(error), "")
        raise ConfigError(f"{file}: {place + ': ' if place else ''}not valid TOML: {show(what)[1:-1]}") from None
    return tree


def convert(raw: dict[str, Any], kind: type[T], file: str) -> T:
    """The tree as a struct. Raises ConfigError for the first thing that is wrong."""
    try:
        for problem in _impossible(raw, ""):
            raise ConfigError(f"{file}: {problem}")
        return msgspec.convert(raw, kind, dec_hook=_quantity)
    except msgspec.ValidationError as error:
        problem = first_problem(raw, kind, _quantity) or str(error)
        raise ConfigError(f"{file}: {problem}") from error
    except RecursionError:
        raise ConfigError(f"{file}: values are nested too deeply") from None


def _toml_library() -> Any:
    try:
        return importlib.import_module("tomllib")
    except ModuleNotFoundError:  # Python 3.10
        return importlib.import_module("tomli")


def _quantity(kind: type, value: Any) -> Any:
    """``decode_quantity`` whose errors say only what is allowed, and with an upper bound."""
    try:
        quantity = decode_quantity(kind, value)
    except (ValueError, OverflowError):
        raise ValueError(f"Expected {getattr(kind, 'allowed', 'text')}") from None
    if kind is Duration and quantity > _LONGEST:
        raise ValueError("Expected a time of at most 3650d")
    return quantity


def _impossible(value: Any, path: str, key: str = "") -> Iterator[str]:
    """What TOML can write though no key of ours has a use for it: NaN, infinity, control characters."""
    if isinstance(value, dict):
        for name, item in value.items():
            if _controls(name):
                yield f"{key_path(path, name)}: a key with a control character"
            yield from _impossible(item, key_path(path, name), name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _impossible(item, f"{path}[{index}]", key)
    elif isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value) or key != "range":  # a range may be open
            yield f"{path} = {value}: expected a finite number"
    elif isinstance(value, str):
        kept = re.sub(r"[\n\t]", "", value) if key in _LINES_ALLOWED else value
        if _controls(kept):
            yield f"{path} = {show(value)}: a control character, a tab or the end of a line does not belong here"


def _controls(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in text)
