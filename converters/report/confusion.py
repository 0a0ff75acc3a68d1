"""Confusion matrices: of the float model, of the file, and what changed between them."""

from __future__ import annotations

import numpy as np

from converters.evaluation.classification import ClassificationResult, Confused
from converters.report.blocks import Block, Cell, Column, Columns, HeatMap, Matrix, Paragraph, Table
from converters.report.pictures import heat_uri
from converters.report.words import MINUS
from edge_agent.records import Array

WRITTEN_MOST = 16  # classes with a number in each cell
NARROW_MOST = 6  # classes of which three matrices fit into a line
STRONGEST = 0.5  # of a tint: the number on it stays readable
_COLOUR = (31, 111, 235)
_CHANGED = (194, 87, 12)


def confusion_blocks(before: ClassificationResult | None, after: ClassificationResult) -> list[Block]:
    """Nothing where there are too many classes even for a picture; the pairs most often confused always."""
    names = tuple(item.label for item in after.classes)
    blocks: list[Block] = []
    if after.confusion is not None:
        now = np.array(after.confusion)
        then = None if before is None or before.confusion is None else np.array(before.confusion)
        shown = _written(names, then, now) if len(names) <= WRITTEN_MOST else _drawn(then, now)
        blocks.append(Columns(tuple(shown), narrow=not NARROW_MOST < len(names) <= WRITTEN_MOST))
        if then is not None and (then == now).all():
            blocks.append(Paragraph("No row moved: the two matrices are the same."))
    if after.confused:
        by_float = before is not None and before.confusion is not None
        columns = [Column("truth"), Column("answer"), Column("rows", True)]
        columns += [Column("by float", True)] if by_float else []
        rows = tuple(
            (pair.truth, pair.answer, str(pair.count), *([str(_count(before, pair))] if before and by_float else []))
            for pair in after.confused
        )
        blocks.append(Table("Most often confused as deployed", tuple(columns), rows, folded=len(rows) > 6))
    return blocks


def _count(result: ClassificationResult, pair: Confused) -> int:
    places = {item.label: place for place, item in enumerate(result.classes)}
    known = result.confusion is not None and {pair.truth, pair.answer} <= set(places)
    return result.confusion[places[pair.truth]][places[pair.answer]] if result.confusion and known else 0


def _written(names: tuple[str, ...], then: Array | None, now: Array) -> list[Block]:
    matrices: list[Block] = []
    if then is not None:
        matrices.append(counts_matrix("Float", names, then))
    matrices.append(counts_matrix("As deployed", names, now))
    if then is not None and (now != then).any():
        matrices.append(_difference(names, now - then))
    return matrices


def counts_matrix(caption: str, names: tuple[str, ...], counts: Array) -> Matrix:
    """``counts`` (classes, classes), truth by answer."""
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / totals
    cells = tuple(
        tuple(
            Cell(str(count) if count else "·", STRONGEST * share**0.5, "first" if row == column else "second")
            for column, (count, share) in enumerate(zip(line.tolist(), part.tolist(), strict=True))
        )
        for row, (line, part) in enumerate(zip(counts, shares, strict=True))
    )
    return Matrix(f"{caption}: rows are the truth, columns the answer", names, cells)


def _difference(names: tuple[str, ...], change: Array) -> Matrix:
    """More right answers and fewer wrong ones are good."""
    largest = max(1, int(np.abs(change).max()))
    cells = []
    for row, line in enumerate(change.tolist()):
        cells.append(
            tuple(
                Cell(
                    f"{value:+d}".replace("-", MINUS) if value else "·",
                    STRONGEST * abs(value) / largest,
                    "good" if (value > 0) == (row == column) else "bad",
                )
                for column, value in enumerate(line)
            )
        )
    return Matrix("Difference: as deployed minus float", names, tuple(cells))


def _drawn(then: Array | None, now: Array) -> list[Block]:
    size = len(now)
    blocks: list[Block] = []
    for caption, counts in (("Float", then), ("As deployed", now)):
        if counts is not None:
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            right = int(np.diag(counts).sum())
            text = f"{right} of {int(counts.sum())} rows on the diagonal of {size} classes"
            blocks.append(HeatMap(f"{caption}: truth downwards, answer to the right", heat_uri(shares, _COLOUR), text))
    if then is not None and (now != then).any():
        change = np.abs(now - then)
        text = f"{int(change.sum())} counts moved between {int((change > 0).sum())} of {size * size} pairs"
        uri = heat_uri(change / max(1, int(change.max())), _CHANGED)
        blocks.append(HeatMap("Difference between them, whichever way", uri, text))
    return blocks
