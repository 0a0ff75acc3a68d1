"""How values, key paths and near misses are written in messages about the configuration.

Everything returned is one printable line, and never a password.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

_LONGEST = 80
_CREDENTIALS = re.compile(r"://\S*@")
_PARAMETERS = re.compile(r"(?i)([\w-]*(?:pass|pwd|pw|secret|token)[\w-]*=)[^\s&\"']+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_DURATION_UNITS = (("d", 86400 * 10**9), ("h", 3600 * 10**9), ("m", 60 * 10**9), ("s", 10**9), ("ms", 10**6))


def show(value: Any) -> str:
    """A value of a TOML file as it would be written there, shortened, without the credentials of an address."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(without_secrets(value), ensure_ascii=False)
    elif isinstance(value, list):
        text = "[" + ", ".join(show(item) for item in value[:10]) + (", …]" if len(value) > 10 else "]")
    else:
        text = str(value) if not isinstance(value, int) or abs(value) < 10**40 else "a very large number"
    return _one_line(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def without_secrets(text: str) -> str:
    """The text without "user:password@" of an address and without parameters like "pwd=…"."""
    return _PARAMETERS.sub(r"\1…", _CREDENTIALS.sub("://…@", text))


def key_path(path: str, key: str) -> str:
    """The path of a key inside the table at ``path``, quoted where TOML wants it quoted."""
    written = key if _BARE_KEY.fullmatch(key) else show(key)
    return f"{path}.{written}" if path else written


def listed(names: Iterable[str]) -> str:
    return ", ".join(show(name) for name in names) or "none"


def choices(name: str, known: Iterable[str], label: str = "known") -> str:
    """The end of a message about a wrong name: ``; did you mean "…"? known: …``."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return (f"; did you mean {show(near[0])}? " if near else "; ") + f"{label}: {listed(names)}"


def duration_text(ns: int) -> str:
    """Nanoseconds as the configuration writes them: "5s", "200ms"."""
    for unit, size in _DURATION_UNITS:
        if ns and ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns}ns" if ns else "0s"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
