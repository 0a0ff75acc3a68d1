"""The section about what quantising each layer costs."""

from __future__ import annotations

from collections.abc import Sequence

from converters.quantization.sensitivity import LayerError
from converters.report import charts
from converters.report.blocks import Block, Column, Columns, Paragraph, Picture, Section, Table
from converters.report.content import ReportContent
from converters.report.words import number, percent

SPANS = 100  # largest over smallest: beyond, only a logarithmic axis shows both
ROUNDING = 12**-0.5  # root mean square error of rounding alone, in steps


def layer_section(content: ReportContent) -> list[Section]:
    """Nothing where layers were not measured."""
    layers = content.layers or (content.ladder.layers if content.ladder else ())
    if not layers:
        return []
    kept = {name for rung in _chosen(content) for name in rung}
    worst = layers[0]
    said = (
        f"Each layer alone in int8, all others in float: “{worst.name}” ({worst.kind}) moves the outputs most, by "
        f"{number(worst.output_error)} standard deviations of the float output."
    )
    if kept:
        said += f" Kept in float in this file: {', '.join(sorted(kept))}."
    blocks: list[Block] = [Paragraph(said), Columns(tuple(_charts(layers)))]
    columns = (
        *(Column("layer", wide=True), Column("kind"), Column("output error alone", True)),
        *(Column("changed answers alone", True), Column("own error in steps", True), Column("in this file")),
    )
    rows = tuple(
        (
            layer.name,
            layer.kind,
            number(layer.output_error),
            percent(layer.changed),
            number(layer.own_error),
            "float" if layer.name in kept else "quantised",
        )
        for layer in layers
    )
    return [Section("layers", "Which layers lose it", (*blocks, Table("Every layer", columns, rows, folded=True)))]


def _chosen(content: ReportContent) -> list[tuple[str, ...]]:
    ladder = content.ladder
    return [] if ladder is None or ladder.chosen is None else [ladder.rungs[ladder.chosen].float_ops]


def _charts(layers: Sequence[LayerError]) -> list[Block]:
    alone = [layer for layer in layers if layer.output_error > 0]
    own = sorted((layer for layer in layers if layer.own_error), key=lambda layer: -(layer.own_error or 0.0))
    pictures: list[Block] = []
    if alone:
        values = [layer.output_error for layer in alone]
        chart = charts.ranking([layer.name for layer in alone], values, "output error, alone", log=_spans(values))
        pictures.append(Picture(chart, "Sensitivity: error of the model's outputs when only this layer is quantised."))
    if own:
        values = [layer.own_error or 0.0 for layer in own]
        chart = charts.ranking([layer.name for layer in own], values, "steps of its own scale", log=_spans(values))
        caption = (
            f"Error inside the fully quantised model: rounding alone gives {ROUNDING:.2f} steps, more was "
            "handed down by the layers before."
        )
        pictures.append(Picture(chart, caption))
    return pictures


def _spans(values: Sequence[float]) -> bool:
    shown = values[: charts.BARS_MOST]
    return max(shown) > SPANS * min(shown)
