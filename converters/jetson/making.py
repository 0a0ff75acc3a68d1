"""From a torch or ONNX model to the ONNX files for a device, judged on the test rows: for `onnx` and `tensorrt`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from converters.card_file import read_card
from converters.datasets import open_dataset
from converters.dressing import card_bytes, complete_card, provenance
from converters.evaluation.results import Evaluation, judge
from converters.golden import golden_bytes
from converters.jetson.onnx_file import SCHEMES, OnnxFile, Precision, export_onnx
from converters.jetson.onnx_golden import Chosen, choose_onnx_golden
from converters.jetson.onnx_members import bare_onnx_file, with_onnx_members
from converters.jetson.onnx_model import OnnxModel, quantize_onnx, record_onnx
from converters.progress import Progress, Silent
from converters.records import Dataset, FloatModel, Quantized
from converters.steps import CALIBRATION_SAMPLES
from converters.workbench import said_images
from edge_agent.core.card_schema import CARD_MEMBER, GOLDEN_MEMBER, Golden
from edge_agent.errors import ConfigError


class Made(Struct, frozen=True):
    """``contents``: the files by what they are for, without their cards; "fp16" stays float32 until it is built.
    ``cards``: the card of each. ``evaluations``: on the test rows, where there are any."""

    model: OnnxModel
    contents: dict[Precision, bytes]
    quantized: Quantized | None
    cards: dict[Precision, bytes]
    golden: Chosen
    evaluations: dict[Precision, Evaluation]

    @property
    def notes(self) -> tuple[str, ...]:
        """For a person."""
        left = self.quantized.float_ops if self.quantized else {}
        return (
            *self.model.onnx.notes,
            *self.model.card.notes,
            *(f"{op} stays in float: {why}" for op, why in left.items()),
        )

    def dressed(self, precision: Precision) -> bytes:
        """The file with its card and its golden samples inside."""
        golden = golden_bytes(self.golden.set_of(precision))
        members = {CARD_MEMBER: self.cards[precision], GOLDEN_MEMBER: golden}
        return with_onnx_members(bare_onnx_file(self.contents[precision]), members)


class Wishes(Struct, frozen=True):
    """What the command line says besides model, card and data."""

    int8: bool = False
    opset: int | None = None
    samples: int = CALIBRATION_SAMPLES
    limit: int | None = None
    name: str | None = None
    version: str | None = None


def bare_onnx(model: str, *, work: Path, opset: int | None = None, progress: Progress | None = None) -> OnnxFile:
    """The ONNX file of a model without a card. Raises as ``export_onnx``."""
    return export_onnx(model, images=None, work=work / "export", opset=opset, progress=progress)


def make_onnx(
    model: str,
    *,
    card: Path | dict[str, Any],
    data: str | Dataset | None,
    wishes: Wishes,
    work: Path,
    progress: Progress | None = None,
) -> Made:
    """Export, quantise where ``wishes`` say so, and judge every file on the test rows.

    Raises ConfigError, ModelError, EnvironmentMissingError, WorkerFailedError.
    """
    progress = progress or Silent()
    if wishes.int8 and data is None:
        raise ConfigError("int8 needs samples to measure ranges on: add --data DATASET")
    raw, where, folder = read_card(card)
    images = said_images(raw) if raw.get("inputs") else None
    file = export_onnx(model, images=images, work=work / "export", opset=wishes.opset, progress=progress)
    loaded = OnnxModel(file, card=raw, where=where, folder=folder)
    dataset = open_dataset(data, loaded.card, progress=progress) if isinstance(data, str) else data
    contents: dict[Precision, bytes] = {"fp16": file.content}
    quantized = None
    if wishes.int8 and dataset is not None:
        rows = dataset.rows("calibration")[: wishes.samples]
        quantized = quantize_onnx(loaded, dataset, rows, work=work / "quantize", progress=progress)
        contents["int8"] = quantized.content
    schemes = {"fp16": Quantized(file.content, "float32", "as trained")} | ({"int8": quantized} if quantized else {})
    golden = choose_onnx_golden(loaded, contents, dataset, work=work / "golden", progress=progress)
    rules = {name: golden.set_of(name).rule for name in contents}
    cards = {name: _card(loaded, raw, schemes[name], rules[name], dataset, wishes) for name in contents}
    evaluations = _judged(loaded, contents, dataset, wishes.limit, work / "evaluate", progress) if dataset else {}
    return Made(loaded, contents, quantized, cards, golden, evaluations)


def scores_json(evaluations: Mapping[Precision, Evaluation]) -> dict[str, Any]:
    """By scheme and output."""
    return {SCHEMES[precision]: evaluation.to_json()["outputs"] for precision, evaluation in evaluations.items()}


def score_lines(evaluations: Mapping[Precision, Evaluation]) -> list[str]:
    """One line for each file and output."""
    lines = []
    for precision, evaluation in evaluations.items():
        for name, head in evaluation.outputs.items():
            score = "not measured" if head.score is None else f"{head.score:.4f}"
            same = f", agrees with float32 on {head.agreement.agreement:.4f}" if head.agreement else ""
            lines.append(f"{name} {SCHEMES[precision]}: {head.score_name} {score} on {evaluation.rows} test rows{same}")
    return lines


def _judged(
    model: OnnxModel,
    contents: Mapping[Precision, bytes],
    dataset: Dataset,
    limit: int | None,
    work: Path,
    progress: Progress,
) -> dict[Precision, Evaluation]:
    rows: Sequence[int] = dataset.rows("test")
    recorded = record_onnx(
        model, contents, dataset, rows if limit is None else rows[:limit], work=work, progress=progress
    )
    reference = recorded["fp16"]
    return {name: judge(found, reference=None if name == "fp16" else reference) for name, found in recorded.items()}


def _card(
    model: OnnxModel,
    raw: Mapping[str, Any],
    scheme: Quantized,
    rule: Golden,
    dataset: Dataset | None,
    wishes: Wishes,
) -> bytes:
    """The whole card, labels in it, so that programs of others find all of it in one metadata entry."""
    file = model.onnx
    source = FloatModel(file.content, file.kind, file.path, file.sha256, file.versions, file.notes)
    card = complete_card(model.card, name=wishes.name, version=wishes.version, inline=True)
    notes = {**raw.get("provenance", {}), "conversion": provenance(source, scheme, dataset, None)}
    golden = msgspec.convert(raw.get("golden"), Golden | None) or rule
    return card_bytes(replace(card, provenance=notes, golden=golden))
