"""Values out of JSON that a device sent, by path: ``a.b[0].c``, ``$.a``, ``a["odd.key"]``.

A path picks at most one value; there are no wildcards and no filters. Nothing here raises on what a device sends
but ValueError, however odd it is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from edge_agent.config.schema import SensorConfig
from edge_agent.errors import ConfigError

_ROOT = re.compile(r"\$(?=[.\[]|$)")
_STEP = re.compile(r"""(?P<dot>\.)?(?P<name>[^.\[\]"'\s]+)|\[(?P<index>\d+)\]|\[(?P<key>"(?:[^"\\]|\\.)*")\]""")
_ALLOWED = 'expected names joined by dots, [0] for a place in a list and ["…"] for a name with other characters'


@dataclass(frozen=True, slots=True)
class JsonPath:
    """The steps from the document's root to one value: a str is an object's name, an int a list's index."""

    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Raises ValueError that says where the path stops making sense and what is allowed."""
        root = _ROOT.match(text)
        at = root.end() if root else 0
        steps: list[str | int] = []
        while at < len(text) or not text:
            step = _STEP.match(text, at)
            # A name needs its dot everywhere but at the very beginning, and may not have one there.
            if not step or (step["name"] is not None and bool(step["dot"]) != (at > 0)):
                raise ValueError(f'JSON path "{text}" can\'t be read from character {at + 1} on; {_ALLOWED}')
            steps.append(_value(step, text))
            at = step.end()
        return cls(tuple(steps))

    def find(self, document: object) -> object:
        """The value at the path; None where the document has no such place."""
        for step in self.steps:
            if isinstance(step, str) and isinstance(document, dict):
                document = document.get(step)
            elif isinstance(step, int) and isinstance(document, list) and step < len(document):
                document = document[step]
            else:
                return None
        return document


class JsonFields:
    """All fields of one sensor in one JSON text."""

    def __init__(self, config: SensorConfig) -> None:
        """Raises ConfigError for a ``select`` that is no path."""
        self._paths = {}
        for name, field in config.fields.items():
            try:
                self._paths[name] = JsonPath((name,)) if field.select is None else JsonPath.parse(field.select)
            except ValueError as error:
                raise ConfigError(f'sensor "{config.name}", field "{name}", select: {error}') from None
        only = next(iter(config.fields)) if len(config.fields) == 1 else None
        self._bare = only if only is not None and config.fields[only].select is None else None

    def values(self, text: str) -> dict[str, object]:
        """Field -> number, text or bool. A field that is null, an object, a list or not there is left out.

        A bare value is that of the only field, where this has no ``select``. Raises ValueError when the text is
        not JSON or holds none of the fields.
        """
        try:
            document = json.loads(text)
        except RecursionError:  # thousands of opening brackets
            raise ValueError("not JSON: nested too deeply") from None
        if self._bare is not None and _scalar(document):
            return {self._bare: document}
        found = {name: path.find(document) for name, path in self._paths.items()}
        values = {name: value for name, value in found.items() if _scalar(value)}
        if not values:
            raise ValueError("none of the sensor's fields is in it")
        return values


def _value(step: re.Match[str], text: str) -> str | int:
    if step["name"] is not None:
        return step["name"]
    if step["index"] is not None:
        return int(step["index"])
    try:
        return str(json.loads(step["key"]))
    except ValueError:
        raise ValueError(f'JSON path "{text}" has a malformed name {step["key"]}; {_ALLOWED}') from None


def _scalar(value: object) -> bool:
    return isinstance(value, bool | int | float | str)
