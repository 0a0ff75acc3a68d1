"""A drift reference as tables for a person."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from converters.drift_facts import ConfidenceBin, ReferenceFacts, in_words, span
from converters.inspection_text import add_row, printable, titled


def reference_text(facts: ReferenceFacts) -> RenderableType:
    """Its features, and how good the answers were where there were labels."""
    if facts.error:
        return Text.assemble(("Drift reference", "bold"), f"\n{printable(facts.error)}")
    embedding = f", embedding {facts.embedding}" if facts.embedding else ""
    parts: list[RenderableType] = [
        _titled(f"Drift reference: {facts.rows:,} rows, bins {facts.binning}{embedding}", _features(facts))
    ]
    if facts.misfit:
        parts.append(Text(printable(f"not of this model, no device will use it: {facts.misfit}")))
    parts += [
        _titled(f"How often {output} was right, by its confidence", _confidence(bins))
        for output, bins in facts.confidence.items()
    ]
    if facts.source:
        parts.append(Text(printable(", ".join(f"{key}: {value}" for key, value in facts.source.items()))))
    return Group(*(line for part in parts for line in (part, "")))


def _titled(title: str, table: Table) -> RenderableType:
    """A title may be wider than its table, which would break it into lines."""
    return Group(Text(printable(title), "bold"), table)


def _features(facts: ReferenceFacts) -> Table:
    table = titled("")
    for name in ("feature", "unit", "bins", "where its values lie"):
        table.add_column(name, justify="right" if name == "bins" else "left", overflow="fold")
    for feature in facts.features:
        add_row(table, feature.name, feature.unit, str(len(feature.shares) + 1), in_words(feature))
    return table


def _confidence(bins: Sequence[ConfidenceBin]) -> Table:
    table = titled("")
    for name in ("confidence", "labelled", "right"):
        table.add_column(name, justify="left" if name == "confidence" else "right")
    for one in bins:
        right = f"{one.right / one.labelled:.1%}" if one.labelled else ""
        add_row(table, span(one), str(one.labelled), right)
    return table
