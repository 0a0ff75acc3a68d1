"""The words around a card: what is wrong with one as written, and the lines that a model without one needs.

The lines shown are TOML that the reader can paste; they name the real tensors and leave the choice to a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from edge_agent.core.card_rules import POSTPROCESS, described, elements, looks_like_a_picture, nearest
from edge_agent.core.card_schema import Budgets, Card, Feature, Golden, InputCard, OutputCard
from edge_agent.errors import EdgeAgentError, ModelError
from edge_agent.records import TensorSpec

_TAGGED: dict[str, tuple[str, Any]] = {"inputs": ("role", InputCard), "outputs": ("task", OutputCard)}
_PLAIN: dict[str, type[msgspec.Struct]] = {
    "": Card,
    "inputs.features": Feature,
    "budgets": Budgets,
    "golden": Golden,
}


def checked_card(raw: Mapping[str, Any], where: str, error: type[EdgeAgentError] = ModelError) -> Card:
    """The card that ``raw`` says. Raises ``error`` with where, key, value, what is allowed and the nearest key."""
    try:
        return msgspec.convert(dict(raw), Card)
    except msgspec.ValidationError as fault:
        raise error(f"{where}: {_printable(_explained(raw, str(fault)))}") from None


def _explained(raw: Mapping[str, Any], fault: str) -> str:
    message, at, path = fault.rpartition(" - at `$")
    message, path = (message, path) if at else (fault, "")
    path = path.rstrip("`").lstrip(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        allowed = _keys(path, _at(raw, path))
        key = f"{path}.{unknown[1]}" if path else unknown[1]
        return f"{key} is not a key{nearest(unknown[1], allowed)}; allowed: {', '.join(allowed)}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        choices = _choices(path, missing[1], _at(raw, path))
        return f"{path} lacks {missing[1]}" + (f": one of {choices}" if choices else "")
    parent, _, key = path.rpartition(".")
    value = repr(_at(raw, path))
    value = value if len(value) <= 60 else value[:57] + "…"
    choices = _choices(parent, key, _at(raw, parent))
    if choices and message.startswith("Invalid"):
        return f"{path} is {value}, allowed: {choices}"
    return f"{path or 'the card'} is {value}: {message[:1].lower()}{message[1:].replace('`', '')}"


def _at(raw: Any, path: str) -> Any:
    """The value at a path such as "inputs[0].features[2].std"."""
    for index, key in re.findall(r"\[(\d+)\]|([^.\[\]]+)", path):
        if index:
            raw = raw[int(index)] if isinstance(raw, list | tuple) else None
        else:
            raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _struct(path: str, value: Any) -> type[msgspec.Struct] | None:
    """The struct that describes the object at ``path``; None where a wrong tag hides it."""
    kind = re.sub(r"\[\d+\]", "", path)
    if kind in _TAGGED:
        key, union = _TAGGED[kind]
        tag = value.get(key) if isinstance(value, Mapping) else None
        return next((item for item in get_args(union) if item.__struct_config__.tag == tag), None)
    return _PLAIN.get(kind)


def _keys(path: str, value: Any) -> list[str]:
    struct = _struct(path, value)
    tag = [_TAGGED[kind][0] for kind in _TAGGED if re.fullmatch(rf"{kind}\[\d+\]", path)]
    return tag + (list(struct.__struct_fields__) if struct else [])


def _choices(path: str, key: str, value: Any) -> str:
    """The words that a key may have, or nothing where it is not a choice of words."""
    kind = re.sub(r"\[\d+\]", "", path)
    if kind in _TAGGED and key == _TAGGED[kind][0]:
        words = [item.__struct_config__.tag for item in get_args(_TAGGED[kind][1])]
    else:
        struct = _struct(path, value)
        words = list(_literals(get_type_hints(struct).get(key))) if struct else []
    return ", ".join(f'"{word}"' for word in words)


def _literals(hint: Any) -> Iterator[str]:
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for inner in get_args(hint):
            yield from _literals(inner)


def lines_to_add(table: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """TOML for the tensors without a role. ``table`` is "model.NAME.card", or empty for a file of its own."""
    prefix = f"{table}." if table else ""
    left = list(outputs)
    blocks = []
    for spec in inputs:
        twin = None if looks_like_a_picture(spec) else next((item for item in left if _twins(spec, item)), None)
        if twin is not None:
            left.remove(twin)
        blocks.append(f"[[{prefix}inputs]]\n" + "\n".join(_input_lines(spec, twin)))
    blocks += [f"[[{prefix}outputs]]\n" + "\n".join(block) for block in _output_blocks(left)]
    return "\n\n".join(blocks)


def _twins(spec: TensorSpec, output: TensorSpec) -> bool:
    """Whether the output could be fed back into this input: then that is the likelier line to show."""
    return (spec.shape, spec.dtype, spec.scale, spec.zero_point) == (
        output.shape,
        output.dtype,
        output.scale,
        output.zero_point,
    )


def _input_lines(spec: TensorSpec, twin: TensorSpec | None) -> list[str]:
    tensor = f"tensor = {_quoted(spec.name)}  # {described(spec)}"
    if looks_like_a_picture(spec):
        color = [] if spec.shape[3] == 3 else ['color = "gray"']
        return ['role = "image"  # or "features", "state"', tensor, *color]
    if twin is not None:
        source = f"source = {_quoted(twin.name)}  # the output that is fed back: check which one"
        return ['role = "state"  # or "features"', tensor, source]
    return [
        'role = "features"  # or "state" (with source = "an output" in place of features)',
        tensor,
        f'features = [{{ name = "first", unit = "", mean = 0.0, std = 1.0 }}]  # all {elements(spec)}, in order',
    ]


def _output_blocks(outputs: Sequence[TensorSpec]) -> Iterator[list[str]]:
    names = {spec.name for spec in outputs}
    detector = set(POSTPROCESS) <= names
    if detector:
        keys = zip(("boxes", "classes", "scores", "count"), POSTPROCESS, strict=True)
        threshold = "threshold = 0.5  # least score that is published"
        yield ['task = "detection"', *(f"{key} = {_quoted(name)}" for key, name in keys), threshold]
    for spec in outputs:
        if not (detector and spec.name in POSTPROCESS):
            yield _output_lines(spec)


def _output_lines(spec: TensorSpec) -> list[str]:
    several = elements(spec) > 1
    task, other = ("classification", "regression") if several else ("regression", "classification")
    return [
        f'task = "{task}"  # or "{other}", "anomaly" (with threshold), "detection" (see docs/models.md)',
        f"tensor = {_quoted(spec.name)}  # {described(spec)}",
    ]


def _quoted(name: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's."""
    return msgspec.json.encode(name).decode()
