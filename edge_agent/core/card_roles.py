"""Which tensor has which role, as far as some source says so. What no source says is left out: never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from edge_agent.core.card_rules import POSTPROCESS, elements, looks_like_a_picture
from edge_agent.core.card_schema import (
    ClassificationOutput,
    DetectionOutput,
    ImageInput,
    OutputCard,
    RegressionOutput,
)
from edge_agent.core.card_sources import Heads, Roles, Source, Sources
from edge_agent.errors import ModelError
from edge_agent.records import TensorMetadata, TensorSpec

# The names that the public metadata writers give to the same four tensors.
_DETECTOR = ("location", "category", "score", "number of detections")


def input_roles(given: Sources, single_input_is_image: bool) -> Roles:
    roles: Roles = {}
    for source, card in ((given.card, given.own), (given.config, given.said)):
        names = [item.tensor for item in card.inputs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise source.refuse(f'inputs gives "{twice[0]}" two roles: one is allowed')
        roles.update({item.tensor: (source, item) for item in card.inputs})
    for name, fact in given.input_facts.items():
        source, item = roles.get(name, (given.metadata, None))
        if item is None and fact.content == "image":
            color = fact.color or _usual_color(given.inputs[name])
            mean, std = _normalisation(given, name, fact)
            roles[name] = source, ImageInput(tensor=name, color=color, mean=mean, std=std)
        elif isinstance(item, ImageInput) and source is given.config and item.mean is None and item.std is None:
            mean, std = _normalisation(given, name, fact)
            roles[name] = source, msgspec.structs.replace(item, mean=mean, std=std)
    if single_input_is_image and not roles and len(given.inputs) == 1:
        (spec,) = given.inputs.values()
        if looks_like_a_picture(spec):
            image = ImageInput(tensor=spec.name, color=_usual_color(spec))
            roles[spec.name] = Source(given.file.path, ModelError), image
            given.notes.append(f'"{spec.name}" is the only input and takes the picture')
    return roles


_Values = tuple[float, ...] | None


def _normalisation(given: Sources, name: str, fact: TensorMetadata) -> tuple[_Values, _Values]:
    """Mean and std of standard metadata, except where they and the quantisation cancel out to within one step: then
    pixels go in as they are, as the TFLite Task Library does it. To apply mean 127.5 and zero point 127 to the letter
    would shift every pixel by half a step and round half of them the other way."""
    spec = given.inputs[name]
    offset = {"uint8": 0.0, "int8": -128.0}.get(spec.dtype.name)
    if not fact.mean or not fact.std or offset is None or spec.scale == 0:
        return fact.mean, fact.std
    channels = range(max(len(fact.mean), len(fact.std)))  # one value stands for all channels
    pairs = ((fact.mean[n % len(fact.mean)], fact.std[n % len(fact.std)]) for n in channels)
    if not all(_cancels(mean, std, spec, offset) for mean, std in pairs):
        return fact.mean, fact.std
    given.notes.append(f'the normalisation and the quantisation of "{name}" cancel out: it takes pixels as they are')
    return None, None


def _cancels(mean: float, std: float, spec: TensorSpec, offset: float) -> bool:
    """False also where the metadata has numbers that are none: the rules refuse them with their values."""
    if std == 0:
        return False
    steps = {pixel: (pixel - mean) / std / spec.scale + spec.zero_point for pixel in (0.0, 255.0)}
    return all(abs(step - (pixel + offset)) <= 1.0 for pixel, step in steps.items())


def output_roles(given: Sources, states: set[str]) -> Heads:
    """``states``: outputs that are fed back. Empty where the sources do not say what the outputs are."""
    if given.said.outputs:
        return [(given.config, head) for head in given.said.outputs]
    if given.own.outputs:
        tasks = {task_of(head) for head in given.own.outputs}
        if given.said.task is not None and given.said.task not in tasks:
            raise given.config.refuse(
                f'task is "{given.said.task}", but the file\'s own card has {", ".join(sorted(tasks))}: write outputs'
            )
        return [(given.card, head) for head in given.own.outputs]
    free = [spec for name, spec in given.outputs.items() if name not in states]
    described = _heads_of_metadata(given, free)
    if task := given.said.task or given.own.task:
        return _heads_of_task(given, free) or [(source, head) for source, head in described if task_of(head) == task]
    return described or _heads_of_labels(given, free)


def task_of(head: OutputCard) -> str:
    return str(head.__struct_config__.tag)


def _heads_of_task(given: Sources, free: list[TensorSpec]) -> Heads:
    source = given.config if given.said.task else given.card
    task = given.said.task or given.own.task
    if task == "detection":
        named = {spec.name for spec in free} == set(POSTPROCESS)
        quadruple = _detector(given, free) or (POSTPROCESS if named else None)
        return [(source, _detection(quadruple))] if quadruple else []
    if len(free) == 1 and task == "classification":
        return [(source, ClassificationOutput(tensor=free[0].name))]
    if len(free) == 1 and task == "regression" and elements(free[0]) == 1:
        return [(source, RegressionOutput(tensor=free[0].name))]
    return []


def _heads_of_metadata(given: Sources, free: list[TensorSpec]) -> Heads:
    if quadruple := _detector(given, free):
        return [(given.metadata, _detection(quadruple))]
    facts = {spec.name: given.output_facts.get(spec.name) for spec in free}
    labelled = [name for name, fact in facts.items() if fact and fact.labels and fact.labels_of == "elements"]
    if len(labelled) == 1:
        return [(given.metadata, ClassificationOutput(tensor=labelled[0]))]
    return [(given.metadata, ClassificationOutput(tensor=name, name=name)) for name in labelled]


def _heads_of_labels(given: Sources, free: list[TensorSpec]) -> Heads:
    """Labels without a task: a classification, where there is one output and a label for each element."""
    source = given.config if given.said.labels is not None else given.card
    labels = given.said.labels if given.said.labels is not None else given.own.labels
    if labels is None or len(free) != 1 or len(given.lines_of(source, labels)) != elements(free[0]):
        return []
    return [(source, ClassificationOutput(tensor=free[0].name))]


def _detector(given: Sources, free: list[TensorSpec]) -> tuple[str, ...] | None:
    """Tensor names of boxes, classes, scores and count, where the metadata calls them so."""
    names = {spec.name for spec in free}
    known = {fact.name: name for name, fact in given.output_facts.items() if name in names}
    if not set(_DETECTOR) <= known.keys():
        return None
    quadruple = tuple(known[name] for name in _DETECTOR)
    return quadruple if given.output_facts[quadruple[0]].content == "bounding_box" else None


def _detection(quadruple: Sequence[str]) -> DetectionOutput:
    boxes, classes, scores, count = quadruple
    return DetectionOutput(boxes=boxes, classes=classes, scores=scores, count=count)


def _usual_color(spec: TensorSpec) -> Any:
    """RGB is what models are trained on; the card says so where one is not."""
    return "gray" if spec.shape[-1:] == (1,) else "rgb"
