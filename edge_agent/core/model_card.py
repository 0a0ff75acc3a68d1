"""What each tensor of a model is for: the card inside the file, then standard metadata, then the configuration.

Nothing here guesses a role from a shape. What no source says is an error that shows the lines to add.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from edge_agent.core.card_roles import input_roles, output_roles
from edge_agent.core.card_rules import check_input, check_labels, check_output
from edge_agent.core.card_schema import (
    CARD_MEMBER,
    CARD_SCHEMA,
    Budgets,
    Card,
    ClassificationOutput,
    DetectionOutput,
    FeaturesInput,
    Golden,
    ImageInput,
    OutputCard,
    StateInput,
)
from edge_agent.core.card_sources import Heads, Roles, Source, Sources, sources
from edge_agent.core.card_text import checked_card, lines_to_add
from edge_agent.errors import ConfigError
from edge_agent.records import ModelFile, TensorSpec

__all__ = ["ResolvedCard", "card_json_schema", "checked_card", "resolve"]


class ResolvedCard(Struct, frozen=True):
    """A card that has been checked against the tensors: every input has a role, every name exists.

    ``name`` and ``version`` are empty where no source says them. ``labels`` has an entry by output name only where
    there are labels. ``notes`` is for a person: what was assumed, overridden, left unused or unreadable.
    """

    name: str
    version: str
    image_inputs: tuple[ImageInput, ...]
    feature_inputs: tuple[FeaturesInput, ...]
    state_inputs: tuple[StateInput, ...]
    outputs: tuple[OutputCard, ...]
    labels: dict[str, tuple[str, ...]]
    budgets: Budgets
    golden: Golden
    notes: tuple[str, ...]


def card_json_schema() -> dict[str, Any]:
    """The JSON Schema of edge-agent/card.json, as published in docs/card.schema.json."""
    schema = msgspec.json.schema(Card)
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = " ".join(definition["description"].split())
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": CARD_SCHEMA, **schema}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # lists for tuples
    return plain


def resolve(
    file: ModelFile,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    configured: Mapping[str, Any] | None,
    *,
    where: str,
    read_text: Callable[[str], str],
    single_input_is_image: bool = True,
) -> ResolvedCard:
    """Put the sources together. ``inputs`` and ``outputs`` stand in the order of the interpreter's own lists.

    ``configured`` is [model.NAME.card] and ``where`` names it in messages; it overrides the file, inputs tensor by
    tensor and everything else key by key. ``read_text`` loads a file of labels that the configuration names; it
    raises OSError, ValueError or ConfigError. ``single_input_is_image``: the caller has a camera, so a model's only
    input takes its picture. Raises ModelError or ConfigError, by who must act; the text may go on with lines to paste.
    """
    said = checked_card(configured or {}, where, ConfigError)
    own = checked_card(file.card or {}, f"{file.path}: {CARD_MEMBER}")
    given = sources(file, inputs, outputs, own, said, where, read_text)
    roles = input_roles(given, single_input_is_image)
    states = {item.source for _, item in roles.values() if isinstance(item, StateInput)}
    heads = output_roles(given, states)
    _require_roles(given, roles, heads, states)
    for source, item in roles.values():
        check_input(source, item, given.inputs, given.outputs)
    for source, head in heads:
        check_output(source, head, given.outputs)
    _require_unique_names(heads)
    labels = _labels(given, heads)
    items = [roles[spec.name][1] for spec in inputs]
    metadata = file.metadata
    return ResolvedCard(
        name=said.name or own.name or "",  # metadata names a kind ("ImageClassifier"), not a model
        version=said.version or own.version or (metadata.version if metadata else ""),
        image_inputs=tuple(item for item in items if isinstance(item, ImageInput)),
        feature_inputs=tuple(item for item in items if isinstance(item, FeaturesInput)),
        state_inputs=tuple(item for item in items if isinstance(item, StateInput)),
        outputs=tuple(head for _, head in heads),
        labels=labels,
        budgets=said.budgets or own.budgets or Budgets(),
        golden=said.golden or own.golden or Golden(),
        notes=(
            *dict.fromkeys(given.notes),
            *_overridden(given),
            *_as_they_are(given, items),
            *_unused(given, heads, states),
        ),
    )


def _require_roles(given: Sources, roles: Roles, heads: Heads, states: set[str]) -> None:
    """Every input has a role and there is at least one output, or the error shows what to write."""
    inputs = [spec for name, spec in given.inputs.items() if name not in roles]
    outputs = [] if heads else [spec for name, spec in given.outputs.items() if name not in states]
    if not inputs and heads:
        return
    for source, item in roles.values():
        # a misspelt tensor is the better explanation of a role that seems to be missing
        check_input(source, item, given.inputs, given.outputs)
    names = [f'input "{spec.name}"' for spec in inputs] + [f'output "{spec.name}"' for spec in outputs]
    task = given.said.task or given.own.task
    only = f' (task = "{task}" alone does not say it of these outputs)' if task and not heads else ""
    unread = "".join(f" ({note})" for note in given.file.notes)
    table = re.search(r"\[(model\.[^\[\]]+)\]", given.config.where)
    raise given.config.refuse(
        f"neither {given.file.path} nor the configuration says what is {', '.join(names)}{only}{unread}; "
        f"add and adapt:\n{lines_to_add(table[1] if table else '', inputs, outputs)}"
    )


def _require_unique_names(heads: Heads) -> None:
    names = [head.name for _, head in heads]
    for source, head in heads:
        if names.count(head.name) > 1:
            raise source.refuse(f'two outputs are named "{head.name}": give each a name of its own')


def _labels(given: Sources, heads: Heads) -> dict[str, tuple[str, ...]]:
    result = {}
    labelled = [(source, head) for source, head in heads if isinstance(head, ClassificationOutput | DetectionOutput)]
    # what the file says of its one output is void where the configuration has put several in its place
    of_file = given.own.labels if len(labelled) == 1 or not given.said.outputs else None
    for origin, common in ((given.config, given.said.labels), (given.card, of_file)):
        if common is not None and len(labelled) != 1:
            raise origin.refuse(
                f"labels belongs to the only classification or detection, here are {len(labelled)} of them: "
                "write labels in an entry of outputs"
            )
    for source, head in labelled:
        found = _labels_of(given, source, head, of_file)
        if found is None:
            continue
        if isinstance(head, ClassificationOutput):
            check_labels(found[0], head, found[1], given.outputs[head.tensor])
        result[head.name] = found[1]
    return result


def _labels_of(
    given: Sources,
    source: Source,
    head: ClassificationOutput | DetectionOutput,
    of_file: tuple[str, ...] | str | None,
) -> tuple[Source, tuple[str, ...]] | None:
    """From the configuration, else the file's card, else standard metadata; an output's own labels before the labels
    that the same source gives to the model as a whole."""
    candidates = [(given.config, given.said.labels), (source, head.labels), (given.card, of_file)]
    if source is given.config:
        candidates[0], candidates[1] = candidates[1], candidates[0]
    fact = given.output_facts.get(head.tensor if isinstance(head, ClassificationOutput) else head.classes)
    candidates.append((given.metadata, fact.labels if fact else None))
    for origin, labels in candidates:
        if labels is not None:
            return origin, given.lines_of(origin, labels)
    return None


def _overridden(given: Sources) -> list[str]:
    keys = ("name", "version", "task", "labels", "outputs", "budgets", "golden")
    doubled = [key for key in keys if getattr(given.own, key) and getattr(given.said, key)]
    mine = {item.tensor for item in given.own.inputs}
    doubled += [f'the input "{item.tensor}"' for item in given.said.inputs if item.tensor in mine]
    return [f"{given.config.where} overrides {', '.join(doubled)} of the file's own card"] if doubled else []


def _as_they_are(given: Sources, items: Sequence[object]) -> list[str]:
    notes = []
    for item in items:
        said = isinstance(item, ImageInput) and item.tensor in given.input_facts and given.input_facts[item.tensor].mean
        if isinstance(item, ImageInput) and item.mean is None and item.std is None and not said:
            dtype = given.inputs[item.tensor].dtype.name
            how = {"uint8": "uint8 takes pixels as they are", "int8": "int8 takes pixels minus 128"}
            what = how.get(dtype, f"{dtype} takes pixels / 255")
            notes.append(f'nothing says how to normalise "{item.tensor}": {what}')
    return notes


def _unused(given: Sources, heads: Heads, states: set[str]) -> list[str]:
    used = set(states)
    for _, head in heads:
        if isinstance(head, DetectionOutput):
            used |= {head.boxes, head.classes, head.scores, head.count}
        else:
            used.add(head.tensor)
    unused = [f'"{name}"' for name in given.outputs if name not in used]
    return [f"outputs that nothing uses: {', '.join(unused)}"] if unused else []
