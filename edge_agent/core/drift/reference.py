"""R0: what a model saw of its representative set, made by the converter, carried by the model file, and held against
what a device sees. The file's member is JSON, so that a person and any other program can read it.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.drift.bins import Binner, FeatureSpec, binning_of, width
from edge_agent.core.drift.reference_rules import first_fault
from edge_agent.errors import ModelError
from edge_agent.monitoring import REFERENCE_MEMBER, Binning, Feature, Numeric, Projection, Reference
from edge_agent.records import Array

CONFIDENCE: Final = ".confidence"  # behind the output's name: the feature of that output
CLASS: Final = ".class"


class _Feature(Struct, frozen=True, forbid_unknown_fields=True):
    """A feature of the binning and its counts, side by side for the reader."""

    feature: Feature
    counts: tuple[int, ...]


class _Projection(Struct, frozen=True, forbid_unknown_fields=True):
    """Arrays as base64 of little-endian float16, row by row: a third of what the numbers would take as text."""

    tensor: str
    elements: int
    mean: str
    components: str
    inverse_variance: str


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal["edge-agent/drift-reference/1"]
    rows: int
    source: dict[str, str]
    features: tuple[_Feature, ...]
    hits: dict[str, tuple[tuple[int, int], ...]]
    confusion: dict[str, tuple[tuple[int, ...], ...]]
    projection: _Projection | None


def make_reference(
    specs: Sequence[FeatureSpec],
    rows: Array,
    truth: Mapping[str, Array] | None = None,
    projection: Projection | None = None,
    source: Mapping[str, str] | None = None,
) -> Reference:
    """``rows`` (n, F) float64 as the observer gives them, made with ``projection`` as it is passed here; ``truth``: by
    classification output the true class numbers (n,), NaN where a row has no label. Raises ValueError where shapes or
    names don't fit. A row counts in hits where it has a label, in confusion where it has a prediction too."""
    if not len(rows):
        raise ValueError("a reference needs rows")
    binning = binning_of(specs, rows)
    binner = Binner(binning)
    places = {feature.name: column for column, feature in enumerate(binning)}
    local = binner.index(rows) - binner.offsets[:-1]
    hits, confusion = {}, {}
    for output, classes in (truth or {}).items():
        if output + CLASS not in places or classes.shape != (len(rows),):
            raise ValueError(f'labels of "{output}": no classification output, or not one label for each row')
        confidence, answer = places[output + CONFIDENCE], places[output + CLASS]
        right = rows[:, answer] == classes
        hits[output] = _hits(local[:, confidence], width(binning[confidence]), classes, right)
        confusion[output] = _confusion(binning, answer, local[:, answer], classes)
    counts = tuple(tuple(part.tolist()) for part in binner.split(binner.count(rows)))
    return Reference(binning, counts, len(rows), hits, confusion, projection, dict(source or {}))


def encode_reference(reference: Reference) -> bytes:
    """The member of the model file. Raises ValueError for a projection that half precision would change."""
    return msgspec.json.encode(
        _File(
            schema="edge-agent/drift-reference/1",
            rows=reference.rows,
            source=dict(reference.source),
            features=tuple(map(_Feature, reference.binning, reference.counts)),
            hits=dict(reference.hits),
            confusion=dict(reference.confusion),
            projection=_packed(reference.projection) if reference.projection else None,
        )
    )


def decode_reference(content: bytes) -> Reference:
    """Raises ModelError that says what is wrong with the member; a device then does without it."""
    try:
        file = msgspec.json.decode(content, type=_File)
        reference = Reference(
            binning=tuple(item.feature for item in file.features),
            counts=tuple(item.counts for item in file.features),
            rows=file.rows,
            hits=file.hits,
            confusion=file.confusion,
            projection=_unpacked(file.projection) if file.projection else None,
            source=file.source,
        )
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ModelError(_refusal(str(error))) from None
    if fault := first_fault(reference):
        raise ModelError(_refusal(fault))
    return reference


def matches(reference: Reference, specs: Sequence[FeatureSpec]) -> list[str]:
    """What is wrong between a reference and the features of the model that it came with, a sentence each; empty where
    they belong together. Their order is free: see ``in_order``."""
    said = {feature.name: feature for feature in reference.binning}
    known = {spec.name: spec for spec in specs}
    wrong = [f'the reference has "{name}", which is no feature of the model' for name in said if name not in known]
    wrong += [f'the reference lacks "{name}", a feature of the model' for name in known if name not in said]
    for name in said.keys() & known.keys():
        wrong += _differences(said[name], known[name])
    return sorted(wrong)


def in_order(reference: Reference, names: Sequence[str]) -> Reference:
    """The same reference, its features in the order of ``names``. Raises ValueError where it has not just these."""
    places = {feature.name: place for place, feature in enumerate(reference.binning)}
    if sorted(places) != sorted(names):
        raise ValueError("the reference has other features")
    order = [places[name] for name in names]
    binning, counts = reference.binning, reference.counts
    return replace(
        reference, binning=tuple(binning[place] for place in order), counts=tuple(counts[place] for place in order)
    )


def _hits(bins: Array, size: int, classes: Array, right: Array) -> tuple[tuple[int, int], ...]:
    """``bins`` (n,) of the confidence; ``right`` (n,) is false where there is no label."""
    labelled = np.isfinite(classes)
    rows = np.bincount(bins[labelled], minlength=size)
    hits = np.bincount(bins[right], minlength=size)
    return tuple(zip(rows.tolist(), hits.tolist(), strict=True))


def _confusion(binning: Binning, column: int, answers: Array, classes: Array) -> tuple[tuple[int, ...], ...]:
    """``answers`` (n,): bins of the predicted class. True class by predicted class, other classes last."""
    truths = Binner((binning[column],)).index(classes[:, None])[:, 0]
    size = width(binning[column]) - 1  # the last bin is for missing ones
    both = (truths < size) & (answers < size)
    counts = np.bincount(truths[both] * size + answers[both], minlength=size * size)
    return tuple(tuple(row) for row in counts.reshape(size, size).tolist())


def _differences(said: Feature, spec: FeatureSpec) -> list[str]:
    kind = "numeric" if isinstance(said, Numeric) else "class"
    if kind != spec.kind:
        return [f'"{spec.name}" is a {kind} feature in the reference, a {spec.kind} feature of the model']
    if said.group != spec.group:
        return [f'"{spec.name}" belongs to "{said.group}" in the reference, to "{spec.group}" in the model']
    if isinstance(said, Numeric) and said.unit != spec.unit:
        return [f'"{spec.name}" is in "{said.unit}" in the reference, in "{spec.unit}" in the model']
    return []


def _packed(projection: Projection) -> _Projection:
    return _Projection(
        tensor=projection.tensor,
        elements=len(projection.mean),
        mean=_half(projection.mean),
        components=_half(projection.components),
        inverse_variance=_half(projection.inverse_variance),
    )


def _half(values: Array) -> str:
    with np.errstate(over="ignore"):
        half = values.astype("<f2")
    if not np.array_equal(half.astype(np.float32), values):
        raise ValueError("a projection holds numbers of half precision, or its rows are not those of a device")
    return base64.b64encode(half.tobytes()).decode()


def _unpacked(packed: _Projection) -> Projection:
    """Raises ValueError."""
    size = packed.elements
    inverse_variance = _array("inverse_variance", packed.inverse_variance, (size,))
    if (inverse_variance < 0).any():
        raise ValueError("projection.inverse_variance: holds a number below 0")
    return Projection(
        tensor=packed.tensor,
        mean=_array("mean", packed.mean, (size,)),
        components=_array("components", packed.components, (size, 8)),
        inverse_variance=inverse_variance,
    )


def _array(name: str, text: str, shape: tuple[int, ...]) -> Array:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"projection.{name}: {error}") from None
    if len(content) != 2 * math.prod(shape):
        raise ValueError(f"projection.{name}: {len(content)} bytes for float16 of shape {shape}")
    values: Array = np.frombuffer(content, "<f2").astype(np.float32).reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError(f"projection.{name}: holds a number that is not finite")
    return values


def _refusal(fault: str) -> str:
    return f"{REFERENCE_MEMBER}: {fault}; make it again with edge-convert baseline"
