"""The section about the drift reference: what the device will compare with, and how good the answers were there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from converters.drift_facts import ConfidenceBin, FeatureFacts, ReferenceFacts, in_words, span
from converters.report.blocks import Block, Column, Columns, Paragraph, Picture, Section, Table
from converters.report.confusion import WRITTEN_MOST, counts_matrix
from converters.report.content import ReportContent
from converters.report.distributions import distributions
from converters.report.words import kilobytes, percent, plural

_GROUPS = {
    "sensor": "Sensor features, in the card's units. Outer bins are open; a line is a value that is often repeated.",
    "prediction": "The answers.",
    "image": "The picture as the model gets it.",
    "embedding": "The embedding: its eight principal components, and the distance from the middle.",
}


def reference_section(content: ReportContent) -> list[Section]:
    """Nothing where the file has no reference."""
    facts = content.inspection.drift if content.inspection else None
    if facts is None:
        return []
    if facts.error:
        return [Section("reference", "What the device compares with", (Paragraph(f"{facts.error}.", "bad"),))]
    said = f"{plural(facts.rows, 'row')}, {kilobytes(facts.bytes)}; bins {facts.binning}."
    if facts.source:
        said += " " + ", ".join(f"{key} {value}" for key, value in facts.source.items()) + "."
    blocks: list[Block] = [Paragraph(said)]
    if facts.misfit:
        blocks.append(Paragraph(f"It does not belong to this model, and no device will use it: {facts.misfit}.", "bad"))
    pictures = [
        Picture(distributions(found), caption)
        for group, caption in _GROUPS.items()
        if (found := [feature for feature in facts.features if feature.group == group])
    ]
    blocks.append(Columns(tuple(pictures)))
    blocks.append(_features(facts.features))
    blocks += [Columns(tuple(_answers(output, bins, facts))) for output, bins in facts.confidence.items()]
    return [Section("reference", "What the device compares with", tuple(blocks))]


def _answers(output: str, bins: Sequence[ConfidenceBin], facts: ReferenceFacts) -> list[Block]:
    """How good they were on the labelled rows."""
    blocks: list[Block] = [_confidence(output, bins)]
    names, counts = facts.classes.get(output, ()), np.array(facts.confusion.get(output, ()))
    if names and not counts[-1].any() and not counts[:, -1].any():
        names, counts = names[:-1], counts[:-1, :-1]  # no class is left over
    if 0 < len(names) <= WRITTEN_MOST:
        blocks.append(counts_matrix(f"“{output}” in the reference", names, counts))
    return blocks


def _features(features: Sequence[FeatureFacts]) -> Table:
    columns = (Column("feature"), Column("unit"), Column("where its values lie"), Column("bins", True))
    rows = tuple((one.name, one.unit, in_words(one), str(len(one.shares) + 1)) for one in features)
    return Table("Features of the reference; one bin of each is for missing values", columns, rows, folded=True)


def _confidence(output: str, bins: Sequence[ConfidenceBin]) -> Table:
    rows = tuple(
        (span(one), str(one.labelled), percent(one.right / one.labelled) if one.labelled else "") for one in bins
    )
    columns = (Column("confidence"), Column("labelled rows", True), Column("right", True))
    return Table(f"How often “{output}” was right, by its confidence", columns, rows)
