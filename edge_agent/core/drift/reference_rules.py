"""What must hold of a reference, whoever wrote the file it came in: nothing that counts with it checks again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from edge_agent.core.drift.bins import width
from edge_agent.monitoring import CLASS_BINS_MOST, NUMERIC_BINS, Categorical, Feature, Numeric, Reference


def first_fault(reference: Reference) -> str | None:
    """A sentence; None where all is well."""
    return next(_faults(reference), None)


def _faults(reference: Reference) -> Iterator[str]:
    if reference.rows < 1 or not reference.binning:
        yield f"has {reference.rows} rows of {len(reference.binning)} features"
    names = [feature.name for feature in reference.binning]
    yield from (f'names the feature "{name}" twice' for name in names if names.count(name) > 1)
    for feature, counts in zip(reference.binning, reference.counts, strict=True):
        rule = _numeric(feature) if isinstance(feature, Numeric) else _categorical(feature)
        yield from (f'feature "{feature.name}": {fault}' for fault in rule)
        yield from (f'feature "{feature.name}": {fault}' for fault in _counts(feature, counts, reference.rows))
    yield from _outputs(reference)


def _numeric(feature: Numeric) -> Iterator[str]:
    edges = feature.edges
    # JSON has no infinity, but 1e999 reads as one.
    if not all(map(math.isfinite, edges)) or any(one >= other for one, other in pairwise(edges)):
        yield "edges must be finite and ascending"
    if len(edges) >= NUMERIC_BINS:
        yield f"{len(edges)} edges, at most {NUMERIC_BINS - 1}"
    if not (0 < feature.quantum < math.inf):
        yield f"quantum {feature.quantum} must be above 0"
    if feature.range is not None and not feature.range[0] < feature.range[1]:
        yield "range must be the smaller, then the larger value"


def _categorical(feature: Categorical) -> Iterator[str]:
    if len(set(feature.classes)) != len(feature.classes) or len(feature.classes) > CLASS_BINS_MOST - 2:
        yield f"classes must be distinct, at most {CLASS_BINS_MOST - 2}"
    if any(abs(number) > 2**53 for number in feature.classes):
        yield "a class number is beyond what a float can tell"
    if feature.labels and len(feature.labels) != len(feature.classes):
        yield f"{len(feature.labels)} labels of {len(feature.classes)} classes"


def _counts(feature: Feature, counts: tuple[int, ...], rows: int) -> Iterator[str]:
    if len(counts) != width(feature):
        yield f"{len(counts)} counts for {width(feature)} bins"
    if min(counts, default=0) < 0 or sum(counts) != rows:
        yield f"counts must be 0 or more and add up to the {rows} rows"


def _outputs(reference: Reference) -> Iterator[str]:
    widths = {feature.name: width(feature) for feature in reference.binning}
    for output, hits in reference.hits.items():
        if len(hits) != widths.get(f"{output}.confidence"):
            yield f'hits of "{output}" need a pair for each bin of "{output}.confidence"'
        if any(not 0 <= right <= labelled for labelled, right in hits):
            yield f'hits of "{output}" must be pairs of labelled rows and of those that were right'
    for output, table in reference.confusion.items():
        size = widths.get(f"{output}.class", 0) - 1
        if len(table) != size or any(len(row) != size or min(row, default=0) < 0 for row in table):
            yield f'confusion of "{output}" needs a row and a column for each class of "{output}.class" and for others'
