"""From bare bytes to a file that describes itself: card, labels, standard metadata, golden samples, provenance.

Nothing in it depends on the time, the machine's paths or the order of a dictionary: the same inputs, the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from converters.card_file import card_builtins
from converters.device_model import DeviceModel
from converters.drift_facts import require_fit
from converters.golden import GoldenSet, choose_golden, golden_bytes
from converters.members import replaced
from converters.progress import Progress, Silent
from converters.records import Dataset, FloatModel, Quantized
from converters.standard_metadata import label_files, metadata_of
from converters.tflite.archive import bare_model, with_members
from converters.tflite.metadata import with_metadata
from edge_agent.core.card_schema import (
    CARD_MEMBER,
    GOLDEN_MEMBER,
    Card,
    ClassificationOutput,
    DetectionOutput,
    Golden,
    InputCard,
    OutputCard,
)
from edge_agent.core.model_card import ResolvedCard, checked_card
from edge_agent.errors import ModelError
from edge_agent.io.model_file import parse_model
from edge_agent.monitoring import REFERENCE_MEMBER

if TYPE_CHECKING:  # the workbench imports much that editing a card does not need
    from converters.workbench import Workbench

DROPPED = (
    "note: the source's drift reference is of other arithmetic and does not go into the new file: make one with "
    "`edge-convert baseline`"
)
PACKAGES = ("edge-agent-runtime", "ai-edge-quantizer", "ai-edge-litert", "numpy", "opencv-python-headless")


def finish(
    bench: Workbench,
    quantized: Quantized,
    *,
    name: str | None = None,
    version: str | None = None,
    technique: Mapping[str, Any] | None = None,
) -> bytes:
    """The whole file. ``name`` and ``version`` go before the card's; ``technique`` is what training did, for the
    provenance. Golden samples are chosen from the test rows; without a data set there are none."""
    card = complete_card(bench.float_model.card, name=name, version=version)
    own = bench.card.get("provenance", {})
    notes = {**own, "conversion": provenance(bench.source, quantized, bench.dataset, technique)}
    card = replace(card, provenance=notes, golden=msgspec.convert(bench.card.get("golden"), Golden | None))
    if REFERENCE_MEMBER in bench.float_model.file.members:
        bench.progress.say(DROPPED)
    labels = _label_members(bench.float_model.card)
    description = str(own.get("description", ""))
    return dress(quantized.content, card, labels, description, bench.dataset, bench.progress)


def redress(
    model: DeviceModel, *, said: Card | None = None, dataset: Dataset | None = None, progress: Progress | None = None
) -> bytes:
    """The file of ``model`` written anew: its card as resolved (``said`` was laid over it when it was opened), metadata
    to match, golden samples from ``dataset`` or those it has. Every other member stays.

    Raises ModelError where what it carries could not be read and would be lost, or no longer fits.
    """
    file = model.file
    if file.notes:
        raise ModelError(f"{file.path}: {'; '.join(file.notes)}; writing it anew would lose that: mend the file first")
    require_fit(file.members, model.card, model.outputs)
    own = said or checked_card(file.card or {}, file.path)
    if file.form == "onnx":
        return _redressed_onnx(model, own, dataset, progress or Silent())
    card = replace(
        complete_card(model.card), provenance=own.provenance, golden=None if dataset is not None else own.golden
    )
    description = str(own.provenance.get("description", ""))
    content = dress(file.content, card, _label_members(model.card), description, dataset, progress or Silent())
    return with_further_members(content, file.members)


def _redressed_onnx(model: DeviceModel, own: Card, dataset: Dataset | None, progress: Progress) -> bytes:
    from converters.jetson.onnx_golden import golden_of_rows

    card, members = complete_card(model.card, inline=True), dict(model.file.members)
    rule = own.golden
    if dataset is not None:
        golden = golden_of_rows(model, dataset, progress)
        members[GOLDEN_MEMBER], rule = golden_bytes(golden), golden.rule
    members[CARD_MEMBER] = card_bytes(replace(card, provenance=own.provenance, golden=rule))
    return replaced(model.file, members)


def with_further_members(content: bytes, members: Mapping[str, bytes]) -> bytes:
    """``content`` with those of ``members`` that it has none of."""
    own = parse_model(content, Path("model.tflite")).members
    return with_members(bare_model(content), {**own, **{k: v for k, v in members.items() if k not in own}})


def dress(
    model: bytes,
    card: Card,
    labels: Mapping[str, bytes],
    description: str,
    dataset: Dataset | None,
    progress: Progress,
) -> bytes:
    """``model`` with metadata, card, labels and, where there are rows to choose from, golden samples."""
    bare = bare_model(model)
    plain = _with_card(bare, card, labels)
    resolved = DeviceModel(plain)
    described = with_metadata(bare, metadata_of(bare, resolved.card, description))
    resolved.close()
    if dataset is None:
        return _with_card(described, card, labels)
    whole = DeviceModel(_with_card(described, card, labels))
    golden = choose_golden(whole.file.content, whole, dataset, dataset.rows("test"), progress=progress)
    whole.close()
    return _with_golden(described, card, labels, golden)


def complete_card(
    resolved: ResolvedCard, *, name: str | None = None, version: str | None = None, inline: bool = False
) -> Card:
    """Everything that was found out about the model, wherever it was said, as one card. Labels are named as files, or
    stand in the card itself (``inline``)."""
    files: Mapping[str, str | tuple[str, ...]] = resolved.labels if inline else label_files(resolved)
    inputs: tuple[InputCard, ...] = (*resolved.image_inputs, *resolved.feature_inputs, *resolved.state_inputs)
    return Card(
        name=name or resolved.name or None,
        version=version or resolved.version or None,
        inputs=inputs,
        outputs=tuple(_labelled(head, files) for head in resolved.outputs),
        budgets=resolved.budgets if resolved.budgets.p95_ms or resolved.budgets.memory_mb else None,
    )


def card_bytes(card: Card) -> bytes:
    """The member edge-agent/card.json."""
    return (json.dumps(card_builtins(card), indent=1, ensure_ascii=False) + "\n").encode()


def provenance(
    source: FloatModel, quantized: Quantized, dataset: Dataset | None, technique: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Where a file comes from: hashes and versions, no path and no time."""
    facts: dict[str, Any] = {
        "source": {"kind": source.kind, "file": Path(source.path).name, "sha256": source.sha256},
        "scheme": quantized.scheme,
        "method": quantized.method,
    }
    if dataset is not None:
        facts["data"] = {"name": Path(dataset.spec).name, "sha256": dataset.sha256(), "rows": len(dataset)}
    if technique:
        facts["technique"] = dict(technique)
    if quantized.float_ops:
        facts["float_ops"] = dict(sorted(quantized.float_ops.items()))
    if quantized.minimum_runtime:
        facts["minimum_runtime"] = quantized.minimum_runtime
    facts["versions"] = {**source.versions, **{package: version_of(package) for package in PACKAGES}}
    return facts


def _labelled(head: OutputCard, files: Mapping[str, str | tuple[str, ...]]) -> OutputCard:
    if isinstance(head, ClassificationOutput | DetectionOutput):
        return replace(head, labels=files.get(head.name))
    return head


def _label_members(resolved: ResolvedCard) -> dict[str, bytes]:
    files = label_files(resolved)
    return {files[name]: "".join(f"{line}\n" for line in lines).encode() for name, lines in resolved.labels.items()}


def _with_card(model: bytes, card: Card, labels: Mapping[str, bytes]) -> bytes:
    return with_members(model, {**labels, CARD_MEMBER: card_bytes(card)})


def _with_golden(model: bytes, card: Card, labels: Mapping[str, bytes], golden: GoldenSet) -> bytes:
    said = replace(card, golden=card.golden or golden.rule)
    return with_members(model, {**labels, CARD_MEMBER: card_bytes(said), GOLDEN_MEMBER: golden_bytes(golden)})
