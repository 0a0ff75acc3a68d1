"""Models that training made, beside those that they must be compared with: each as the int8 file that a device gets,
measured on the same rows, its latency on this machine in turns with the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from converters.evaluation.agreement import compare_recorded
from converters.evaluation.cost import Cost, measure_cost
from converters.evaluation.paired import Drop
from converters.evaluation.recorded import Recorded
from converters.records import FloatModel, Quantized
from converters.steps import Io, Judged, judged, quantized
from converters.tflite.graph import read_graph
from converters.workbench import Workbench


class Candidate(Struct, frozen=True):
    """A float model to be compared. ``kind``: what it is for a program; ``text``: for a person. ``quantized``: its int8
    file, where that is not the one of post-training quantisation."""

    kind: str
    text: str
    source: FloatModel
    parameters: int
    quantized: Quantized | None = None


class Variant(Struct, frozen=True):
    """``score`` (as int8) and ``float_score`` (of the float model that it was made from) are the mean of the outputs'
    main scores on the test rows, higher is better. ``agreement``: how often the int8 answer is that of the original as
    float, mean over the outputs. ``zero_share``: of the int8 weights, how many are zero."""

    kind: str
    text: str
    parameters: int
    float_score: float
    score: float
    agreement: float
    zero_share: float
    cost: Cost
    quantized: Quantized


class Comparison(Struct, frozen=True):
    """``variants``: the original first. ``score_name`` and ``rows`` say what was measured. ``losses``: by kind of each
    other variant, how much worse ``main`` is than it on the output where that is most; without labels none."""

    variants: tuple[Variant, ...]
    main: str
    score_name: str
    rows: int
    losses: dict[str, Drop]

    def variant(self, kind: str) -> Variant:
        return next(variant for variant in self.variants if variant.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Plain objects; models as their size, scheme and method."""
        plain: dict[str, Any] = msgspec.to_builtins(
            {"main": self.main, "score": self.score_name, "rows": self.rows, "losses": self.losses}
        )
        return {**plain, "variants": [_plain(variant) for variant in self.variants]}


def compared(
    bench: Workbench, candidates: Sequence[Candidate], main: str, *, limit: int | None = None, io: Io = "int8"
) -> Comparison:
    """Quantise and measure each candidate. ``bench`` has the original, whose float answers are the reference; ``main``
    is the kind that the others are set beside.

    ``limit``: use at most so many test rows. Raises as the steps do.
    """
    rows = bench.rows("test", limit)
    reference = judged(bench, bench.source.content, rows).recorded
    files = {one.kind: one.quantized or quantized(with_source(bench, one.source), "int8", io=io) for one in candidates}
    found = {kind: judged(bench, file.content, rows, reference=reference) for kind, file in files.items()}
    costs = _costs(bench, files, rows)
    variants = [
        Variant(
            kind=one.kind,
            text=one.text,
            parameters=one.parameters,
            float_score=judged(bench, one.source.content, rows).score,
            score=found[one.kind].score,
            agreement=_agreement(found[one.kind]),
            zero_share=zero_share(files[one.kind].content),
            cost=costs[one.kind],
            quantized=files[one.kind],
        )
        for one in candidates
    ]
    losses = {kind: _loss(side.recorded, found[main].recorded) for kind, side in found.items() if kind != main}
    names = {head.score_name for head in found[main].evaluation.outputs.values()}
    return Comparison(
        tuple(variants),
        main,
        " and ".join(sorted(names)),
        len(rows),
        {kind: loss for kind, loss in losses.items() if loss is not None},
    )


def with_source(bench: Workbench, source: FloatModel) -> Workbench:
    """The same workbench around another float model."""
    return dataclasses.replace(bench, source=source, float_model=bench.device_model(source.content))


def trained_source(bench: Workbench, content: bytes, versions: Mapping[str, str]) -> FloatModel:
    """What training made of the bench's source, whose file and hash stay: they say where it comes from."""
    return msgspec.structs.replace(bench.source, content=content, versions=dict(versions), notes=())


def zero_share(content: bytes) -> float:
    """Of the int8 weights of a file: what the compression of a download can use."""
    graph = read_graph(content)
    weights = [
        values
        for tensor in graph.main.tensors
        if tensor.is_constant and tensor.dtype == "int8" and (values := graph.values(tensor)) is not None
    ]
    total = sum(values.size for values in weights)
    return sum(int((values == 0).sum()) for values in weights) / total if total else 0.0


def _costs(bench: Workbench, files: Mapping[str, Quantized], rows: Sequence[int]) -> dict[str, Cost]:
    models = {kind: bench.device_model(file.content) for kind, file in files.items()}
    try:
        return measure_cost(models, bench.data().example(rows[0]), progress=bench.progress)
    finally:
        for model in models.values():
            model.close()


def _agreement(side: Judged) -> float:
    found = [head.agreement.agreement for head in side.evaluation.outputs.values() if head.agreement]
    return sum(found) / len(found)


def _loss(other: Recorded, main: Recorded) -> Drop | None:
    """Of the score; None with several outputs, whose mean has no such interval."""
    outputs = list(compare_recorded(other, main).outputs.values())
    return outputs[0].drop if len(outputs) == 1 else None


def _plain(variant: Variant) -> dict[str, Any]:
    fields = {name: getattr(variant, name) for name in variant.__struct_fields__ if name != "quantized"}
    file = variant.quantized
    plain: dict[str, Any] = msgspec.to_builtins(fields)
    return plain | {"scheme": file.scheme, "method": file.method, "float_ops": file.float_ops}
