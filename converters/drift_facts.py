"""What a drift reference inside a model says, as values for a table, a chart and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.drift.bins import binning_id
from edge_agent.core.drift.carried import carried
from edge_agent.core.drift.reference import decode_reference
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.monitoring import REFERENCE_MEMBER, Categorical, Feature, Reference
from edge_agent.records import TensorSpec

NARROW = 1e-4  # of the range between the outer edges
STEPS = 4e-7  # of the value: three steps of float32, as core.drift.bins sets the edges beside a repeated value
TINY = 1e-30  # beside zero
OTHERS = "other"
CLASSES_MOST = 6  # in words and in a picture


class FeatureFacts(Struct, frozen=True):
    """``shares`` of the rows by bin, 0..1, the missing ones not among them; ``missing``: of all rows. ``edges``:
    between the bins of a numeric feature; ``classes``: names of the bins of a class feature, the last for all others.
    """

    name: str
    group: str
    unit: str
    shares: tuple[float, ...]
    missing: float
    edges: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    def quantile(self, share: float) -> float:
        """The value up to which at least ``share`` (0..1) of the values lie, as far as the bins tell; NaN where none
        was seen."""
        below = 0.0
        for place, part in enumerate(self.shares[:-1]):
            below += part
            if below >= share - 1e-9:
                repeated = self.repeated(place)
                return self.edges[place] if repeated is None else repeated
        return self.edges[-1] if self.edges else math.nan

    def repeated(self, place: int) -> float | None:
        """The value whose own bin this is, because it occurs so often; None for a bin of many values."""
        if not 0 < place < len(self.edges):
            return None
        low, high = self.edges[place - 1], self.edges[place]
        span = self.edges[-1] - self.edges[0]
        narrow = max(NARROW * span, STEPS * max(abs(low), abs(high)), TINY)
        return (low + high) / 2 if high - low <= narrow else None


class ConfidenceBin(Struct, frozen=True):
    """``labelled`` rows whose confidence lay in ``low`` to ``high`` (None: open; both the same: one value), of which
    ``right`` were right."""

    low: float | None
    high: float | None
    labelled: int
    right: int


class ReferenceFacts(Struct, frozen=True):
    """``error``: why it can't be read at all, ``misfit``: why a device would not compare the model with it.
    ``confidence``: by classification output with
    labels; ``classes`` and ``confusion`` (truth by answer) likewise. ``embedding``: the tensor that is projected."""

    error: str = ""
    misfit: str = ""
    bytes: int = 0
    rows: int = 0
    binning: str = ""
    features: tuple[FeatureFacts, ...] = ()
    confidence: dict[str, tuple[ConfidenceBin, ...]] = {}
    classes: dict[str, tuple[str, ...]] = {}
    confusion: dict[str, tuple[tuple[int, ...], ...]] = {}
    embedding: str = ""
    source: dict[str, str] = {}


def reference_facts(
    members: Mapping[str, bytes], card: ResolvedCard | None, outputs: Sequence[TensorSpec]
) -> ReferenceFacts | None:
    """Of the reference among a model's members; None where there is none. One that can't be read is said, and so is
    what does not fit the model; ``card`` is None where nobody knows what the model's tensors are for."""
    content = members.get(REFERENCE_MEMBER)
    if content is None:
        return None
    try:
        reference = decode_reference(content)
    except ModelError as error:
        return ReferenceFacts(error=str(error), bytes=len(content))
    facts = facts_of(reference, len(content))
    return facts if card is None else replace(facts, misfit=carried(members, card, outputs).fault)


def require_fit(members: Mapping[str, bytes], card: ResolvedCard | None, outputs: Sequence[TensorSpec]) -> None:
    """Raises ModelError where there is a reference that can't be read, or that is not of the model with that card; of a
    model without a card only the first can be told."""
    facts = reference_facts(members, card, outputs)
    if facts is None or not (fault := facts.error or facts.misfit):
        return
    raise ModelError(
        f"the drift reference does not belong to this model: {fault}; make it again with `edge-convert baseline`, or "
        f"take it out with `edge-convert embed --remove {REFERENCE_MEMBER}`"
    )


def facts_of(reference: Reference, size: int) -> ReferenceFacts:
    """``size``: bytes of it in the file."""
    facts = {
        feature.name: _feature(feature, counts)
        for feature, counts in zip(reference.binning, reference.counts, strict=True)
    }
    return ReferenceFacts(
        bytes=size,
        rows=reference.rows,
        binning=binning_id(reference.binning),
        features=tuple(facts.values()),
        confidence={
            output: _confidence(facts[f"{output}.confidence"], hits) for output, hits in reference.hits.items()
        },
        classes={output: facts[f"{output}.class"].classes for output in reference.confusion},
        confusion=dict(reference.confusion),
        embedding=reference.projection.tensor if reference.projection else "",
        source=dict(reference.source),
    )


def in_words(feature: FeatureFacts) -> str:
    """'10 % up to 1.2, half up to 3, 90 % up to 5', or the commonest classes."""
    if feature.classes:
        parts = [f"{name} {share:.0%}" for name, share in commonest(feature)]
    elif feature.edges:
        names = {0.1: "10 %", 0.5: "half", 0.9: "90 %"}
        parts = [f"{name} up to {feature.quantile(share):.4g}" for share, name in names.items()]
    else:
        parts = ["no value"]
    return ", ".join(parts + ([f"{feature.missing:.1%} missing"] if feature.missing else []))


def commonest(feature: FeatureFacts) -> list[tuple[str, float]]:
    """(class, share), most frequent first, at most six, those that occur."""
    pairs = [(name, share) for name, share in zip(feature.classes, feature.shares, strict=True) if share]
    return sorted(pairs, key=lambda pair: -pair[1])[:CLASSES_MOST]


def span(one: ConfidenceBin) -> str:
    """'below 0.6', '0.6 to 0.9', 'above 0.9', 'any', or one value."""
    if one.low == one.high:
        return "any" if one.low is None else f"{one.low:.4g}"
    if one.low is None:
        return f"below {one.high:.4g}"
    return f"above {one.low:.4g}" if one.high is None else f"{one.low:.4g} to {one.high:.4g}"


def _feature(feature: Feature, counts: Sequence[int]) -> FeatureFacts:
    seen, rows = sum(counts[:-1]), sum(counts)
    return FeatureFacts(
        name=feature.name,
        group=feature.group,
        unit="" if isinstance(feature, Categorical) else feature.unit,
        shares=tuple(count / seen if seen else 0.0 for count in counts[:-1]),
        missing=counts[-1] / rows if rows else 0.0,
        edges=() if isinstance(feature, Categorical) else feature.edges,
        classes=_classes(feature),
    )


def _classes(feature: Feature) -> tuple[str, ...]:
    if not isinstance(feature, Categorical):
        return ()
    return (*(feature.labels or map(str, feature.classes)), OTHERS)


def _confidence(feature: FeatureFacts, hits: Sequence[tuple[int, int]]) -> tuple[ConfidenceBin, ...]:
    bounds: list[float | None] = [None, *feature.edges, None]
    found = []
    for place, (labelled, right) in enumerate(hits[: len(feature.edges) + 1]):
        value = feature.repeated(place)
        ends = (bounds[place], bounds[place + 1]) if value is None else (value, value)
        found.append(ConfidenceBin(*ends, labelled, right))
    return tuple(found)
