"""The sections about the file itself: what goes in and comes out, where each op runs, what takes the space."""

from __future__ import annotations

from converters.inspection import BackEnd, Inspection, Layer
from converters.report import charts
from converters.report.blocks import Block, Column, Columns, Paragraph, Picture, Section, Table
from converters.report.content import ReportContent
from converters.report.words import MINUS, NOTHING, kilobytes, number, percent, plural, quantization, shape
from edge_agent.records import TensorSpec

_TARGETS = {"xnnpack": "XNNPACK on the CPU", "edgetpu": "Coral Edge TPU", "gpu": "GPU delegate"}


def model_sections(content: ReportContent) -> list[Section]:
    """Inputs and outputs always; the rest where the file was inspected."""
    sections = [Section("tensors", "What goes in and comes out", tuple(_tensors(content)))]
    inspection = content.inspection
    if inspection is not None:
        sections.append(Section("places", "Where it runs", tuple(_places(inspection))))
        sections.append(Section("size", "What takes the space", tuple(_size(inspection))))
    return sections


def _tensors(content: ReportContent) -> list[Block]:
    card = content.model.card
    roles = {item.tensor: f"picture, {item.color}, {item.resize}, {item.fit}" for item in card.image_inputs}
    roles |= {item.tensor: f"readings, {plural(len(item.features), 'feature')}" for item in card.feature_inputs}
    roles |= {item.tensor: f"state, fed back from {item.source}" for item in card.state_inputs}
    heads = {}
    for head in card.outputs:
        for tensor in (getattr(head, key, None) for key in ("tensor", "boxes", "classes", "scores", "count")):
            if tensor:
                heads[tensor] = f"{head.__struct_config__.tag}, “{head.name}”"
    rows = [_port("in", spec, roles.get(spec.name, "")) for spec in content.model.inputs]
    rows += [_port("out", spec, heads.get(spec.name, "")) for spec in content.model.outputs]
    columns = (
        *(Column("tensor", wide=True), Column("way"), Column("what it is"), Column("shape")),
        *(Column("type"), Column("real value of a stored q")),
    )
    blocks: list[Block] = [Table("Tensors", columns, tuple(rows))]
    features = [feature for vector in card.feature_inputs for feature in vector.features]
    if features:
        scaled = tuple(
            (
                f.name,
                f.unit or NOTHING,
                number(f.mean),
                number(f.std),
                NOTHING if f.clip is None else f"±{f.clip:g}",
                NOTHING if f.range is None else f"{number(f.range[0])} to {number(f.range[1])}",
                number(f.mean if f.fill is None else f.fill),
            )
            for f in features
        )
        names = ("mean", "deviation", "clip", "valid range", "stands in when missing")
        caption = f"Readings, scaled on the device before the model: (x {MINUS} mean) / deviation"
        some = (Column("feature", wide=True), Column("unit"), *(Column(name, True) for name in names))
        blocks.append(Table(caption, some, scaled, folded=len(scaled) > 8))
    return blocks


def _port(way: str, spec: TensorSpec, role: str) -> tuple[str, ...]:
    return spec.name, way, role or NOTHING, shape(spec.shape), str(spec.dtype), quantization(spec)


def _places(inspection: Inspection) -> list[Block]:
    columns = (
        *(Column("back-end"), Column("ops it takes", True), Column("share of the multiplications", True)),
        *(Column("first op left to the CPU"), Column("how it is known")),
    )
    rows = tuple(
        (
            _TARGETS.get(back.target, back.target),
            f"{back.taken} of {back.ops}",
            percent(back.macs_share),
            back.first_left.name if back.first_left else "none",
            f"measured here: {back.basis}" if back.measured else f"predicted, not checked on one: {back.basis}",
        )
        for back in inspection.back_ends
    )
    blocks: list[Block] = [Paragraph(_arithmetic(inspection)), Table("Back-ends", columns, rows)]
    for back in inspection.back_ends:
        if back.left:
            blocks.append(_left(back))
    if inspection.float_ops:
        floats = tuple((str(op.op), op.name, op.tensor) for op in inspection.float_ops)
        some = (Column("op"), Column("kind"), Column("output", wide=True))
        blocks.append(Table("Ops that compute in float", some, floats, folded=len(floats) > 8))
    return blocks


def _arithmetic(inspection: Inspection) -> str:
    said = (
        f"{inspection.quantisation[:1].upper()}{inspection.quantisation[1:]}; {plural(len(inspection.layers), 'op')}, "
        f"{plural(inspection.parameters, 'parameter')}, {inspection.macs / 1e6:.2f} million multiplications a run."
    )
    if inspection.minimum_runtime:
        said += f" Needs a runtime of at least {inspection.minimum_runtime}."
    return said


def _left(back: BackEnd) -> Table:
    columns = (Column("op"), Column("times", True), Column("why it stays on the CPU"), Column("what would help"))
    rows = tuple((left.name, str(left.count), left.reason, left.fix or NOTHING) for left in back.left)
    return Table(f"What {_TARGETS.get(back.target, back.target)} does not take", columns, rows, folded=True)


def _size(inspection: Inspection) -> list[Block]:
    heavy = sorted((layer for layer in inspection.layers if layer.constant_bytes), key=lambda one: -one.constant_bytes)
    blocks: list[Block] = []
    pictures: list[Block] = []
    if heavy:
        chart = charts.ranking([_layer(one) for one in heavy], [one.constant_bytes / 1e3 for one in heavy], "kB")
        pictures.append(Picture(chart, f"Constants of the largest of {plural(len(inspection.layers), 'op')}."))
    busy = sorted((layer for layer in inspection.layers if layer.macs), key=lambda one: -one.macs)
    if busy:
        values = [layer.macs / 1e6 for layer in busy]
        chart = charts.ranking([_layer(one) for one in busy], values, "million multiplications")
        pictures.append(Picture(chart, "Where the arithmetic is: what a faster device would speed up."))
    if pictures:
        blocks.append(Columns(tuple(pictures)))
    blocks.append(_parts(inspection))
    columns = (Column("op", True), Column("kind"), Column("output", wide=True), Column("type"), Column("bytes", True))
    rows = tuple((str(one.op), one.name, one.tensor, one.dtype, str(one.constant_bytes)) for one in inspection.layers)
    return [*blocks, Table("Every op", columns, rows, folded=True)]


def _layer(layer: Layer) -> str:
    return f"{layer.op} {layer.name.lower().replace('_', ' ')}"


def _parts(inspection: Inspection) -> Table:
    """What the file is made of."""
    rows = []
    if inspection.flatbuffer_bytes is not None:
        constants = sum(layer.constant_bytes for layer in inspection.layers)
        rows = [
            ("constants of the graph", kilobytes(constants)),
            ("the rest of the graph", kilobytes(max(0, inspection.flatbuffer_bytes - constants))),
        ]
    rows += [(member.name, kilobytes(member.bytes)) for member in inspection.members]
    rows.append(("the whole file", kilobytes(inspection.file_bytes)))
    columns = (Column("part", wide=True), Column("size", True))
    return Table("Parts of the file", columns, tuple(rows), marked=(len(rows) - 1,))
