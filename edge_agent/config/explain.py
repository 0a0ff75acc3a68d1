"""Finds the first thing in a raw TOML tree that a schema refuses, and says it in the operator's words.

Only asked after msgspec has refused the tree: its own message names types of Python and loses the keys of tables.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

from edge_agent.config import schema
from edge_agent.config.words import choices, key_path, show

Hook = Callable[[type, Any], Any]
_SECRETS = {"password", "passwd", "pass", "pwd", "secret", "token"}


def _pattern(annotated: Any) -> str:
    return str(annotated.__metadata__[0].pattern)


PATTERN_WORDS = {
    _pattern(
        schema.Name
    ): "a name of at most 63 lower case letters, digits, - and _, that begins with a letter or digit",
    _pattern(schema.DeviceId): "at most 63 lower case letters, digits and -",
    _pattern(schema.FieldRef): 'a sensor and one of its fields, such as "machine.vibration"',
    _pattern(get_type_hints(schema.MqttConfig, include_extras=True)["base_topic"]): (
        "a topic of at most 256 characters without + and #"
    ),
    # of a profile's systems
    r"^3\.[0-9]+$": 'a version of Python, such as "3.11"',
    r"^2\.[0-9]+$": 'a version of the C library, such as "2.36"',
}


def first_problem(raw: Any, kind: type[msgspec.Struct], hook: Hook) -> str | None:
    """One line that begins with the key's path; None where nothing is wrong."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return next(_struct(raw, info, "", hook), None)


def _struct(value: Any, info: inspect.StructType, path: str, hook: Hook) -> Iterator[str]:
    if not isinstance(value, dict):
        yield _expected(path, value, _words(info, path))
        return
    fields = {field.encode_name: field for field in info.fields}
    for key, item in value.items():
        where = key_path(path, key)
        if key in fields:
            yield from _field(item, fields[key], info.cls, where, hook)
        else:
            yield _unknown_key(where, key, fields)
    for key, field in fields.items():
        if field.required and key not in value:
            yield f"{key_path(path, key)}: missing; {_heading(path)} needs it: {_words(_given(field.type), '')}"


def _field(item: Any, field: inspect.Field, owner: type, where: str, hook: Hook) -> Iterator[str]:
    info, key = _given(field.type), field.encode_name
    if isinstance(info, inspect.StructType):
        yield from _struct(item, info, where, hook)
    elif isinstance(info, inspect.DictType) and isinstance(item, dict):
        inner = _given(info.value_type)
        for name, one in item.items():
            if isinstance(inner, inspect.StructType) and not isinstance(one, dict):
                yield _expected(key_path(where, name), one, f"a table for each {where}, begun by [{where}.NAME]")
                return
            yield from _element(one, inner, owner, key_path(where, name), {key: {name: one}}, hook)
    elif isinstance(info, inspect.VarTupleType) and isinstance(item, list):
        inner = _given(info.item_type)
        for index, one in enumerate(item):
            yield from _element(one, inner, owner, f"{where}[{index}]", {key: [one]}, hook)
    elif refusal := _refusal(owner, {key: item}, hook):
        yield _expected(where, item, _words(info, where, refusal))


def _element(
    item: Any, info: inspect.Type, owner: type, where: str, alone: dict[str, Any], hook: Hook
) -> Iterator[str]:
    """One value of a table or list; ``alone`` is the owner's table with nothing else in it."""
    if isinstance(info, inspect.StructType):
        yield from _struct(item, info, where, hook)
    elif refusal := _refusal(owner, alone, hook):
        yield _expected(where, item, _words(info, where, refusal))


def _refusal(owner: type, part: dict[str, Any], hook: Hook) -> str:
    """What msgspec says of one key alone; the other keys of the table being absent does not count."""
    try:
        msgspec.convert(part, owner, dec_hook=hook)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$.")
        return text if place else ""
    return ""


def _given(info: inspect.Type) -> inspect.Type:
    """The type without None: TOML can't write it, a key is left out instead."""
    if not isinstance(info, inspect.UnionType):
        return info
    rest = tuple(one for one in info.types if not isinstance(one, inspect.NoneType))
    return rest[0] if len(rest) == 1 else inspect.UnionType(rest)


def _expected(where: str, value: Any, words: str) -> str:
    hint = ""
    if isinstance(value, str) and words.startswith(("a number", "a whole number", "true")):
        hint = ", without quotes"
    elif isinstance(value, datetime.date | datetime.time) and words.startswith("text"):
        hint = "; write the date or time in quotes"
    return f"{where} = {show(value)}: expected {words}{hint}"


def _unknown_key(where: str, key: str, fields: dict[str, inspect.Field]) -> str:
    if key.lower() in _SECRETS:
        use = "put it alone into a file and set password_file" if "password_file" in fields else "leave it out"
        return f"{where}: unknown key; secrets do not belong in this file: {use}"
    return f"{where}: unknown key{choices(key, fields, 'allowed')}"


def _words(info: inspect.Type, where: str, refusal: str = "") -> str:
    """What is allowed at that place; for a quantity the refusal itself says it."""
    if refusal and isinstance(info, inspect.CustomType):
        return refusal.removeprefix("Expected ")
    return _WORDS[type(info)](info, where)


def _text_words(info: inspect.StrType, where: str) -> str:
    return PATTERN_WORDS.get(info.pattern, f"text that matches {info.pattern}") if info.pattern else "text"


def _table_words(info: inspect.Type, where: str) -> str:
    return f"one table, begun by {_heading(where)}" if where else "a table"


def _list_words(info: inspect.VarTupleType, where: str) -> str:
    inner = _given(info.item_type)
    return (
        f"tables, each begun by [[{where}]]"
        if isinstance(inner, inspect.StructType)
        else f"a list, each {_words(inner, where)}"
    )


# Every kind of type that the schemas use; a test walks them all.
_WORDS: dict[type[inspect.Type], Callable[[Any, str], str]] = {
    inspect.StructType: _table_words,
    inspect.DictType: _table_words,
    inspect.VarTupleType: _list_words,
    inspect.TupleType: lambda info, where: f"a list of {len(info.item_types)} numbers, such as [-40, 150]",
    inspect.UnionType: lambda info, where: " or ".join(_words(one, where) for one in info.types),
    inspect.LiteralType: lambda info, where: " or ".join(show(value) for value in info.values),
    inspect.CustomType: lambda info, where: str(info.cls.allowed),
    inspect.IntType: lambda info, where: "a whole number" + _bounds(info),
    inspect.FloatType: lambda info, where: "a number" + _bounds(info),
    inspect.StrType: _text_words,
    inspect.BoolType: lambda info, where: "true or false",
    inspect.AnyType: lambda info, where: "a value",
}


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    low = "" if info.ge is None else f" from {info.ge:g}"
    low = low if info.gt is None else f" above {info.gt:g}"
    if info.le is not None:
        return f"{low or ' of'} {'to' if info.ge is not None else 'up to'} {info.le:g}"
    return low + (" upwards" if info.ge is not None else "")


def _heading(path: str) -> str:
    """How the table at that path is begun in the file: [mqtt], [[camera]], [model.conveyor]."""
    table = re.sub(r"\[\d+\]", "", path)
    if not table:
        return "the file"
    return f"[[{table}]]" if path.endswith("]") else f"[{table}]"
