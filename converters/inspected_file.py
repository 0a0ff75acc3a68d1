"""A .tflite opened to be looked at: a broken card, broken metadata or a broken zip is a finding, not an end."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from converters.tflite.archive import bare_model, with_members
from converters.tflite.graph_values import Graph, Tensor
from edge_agent import limits
from edge_agent.core.card_schema import CARD_MEMBER
from edge_agent.core.model_card import ResolvedCard, resolve
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model, read_model
from edge_agent.records import ModelFile, TensorSpec

# What damaged zips raise when they are read (compare edge_agent.io.model_file).
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError, LookupError, OverflowError)

SILENT = "nothing in the file says what its tensors are for: write a card with edge-convert card"
POSTPROCESS = "TFLite_Detection_PostProcess"
# The op says them only when it runs: boxes, classes, scores, count; N is how many it may find.
_POSTPROCESS_SHAPES = ((1, -1, 4), (1, -1), (1, -1), (1,))

PortSpecs = tuple[list[TensorSpec], list[TensorSpec]]


class Member(Struct, frozen=True):
    """A file behind the flatbuffer; ``bytes`` unpacked."""

    name: str
    bytes: int


class Opened(Struct, frozen=True):
    """``flatbuffer_bytes`` is None where the zip behind is damaged, so that nobody knows where the model ends.
    ``card_problem``: why the card can't be read at all."""

    file: ModelFile
    flatbuffer_bytes: int | None
    members: tuple[Member, ...]
    card_problem: str


class CardFacts(Struct, frozen=True):
    """``present``: the file has a card of its own. ``error``: why roles could not be settled, "" where they could."""

    present: bool
    name: str = ""
    version: str = ""
    error: str = ""
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] = {}


class MetadataFacts(Struct, frozen=True):
    """Standard TFLite metadata. ``error``: why it can't be read."""

    present: bool
    name: str = ""
    version: str = ""
    labels: tuple[str, ...] = ()
    error: str = ""


def open_file(path: Path) -> Opened:
    """Raises ModelError where the file can't be read or is no TFLite model."""
    try:
        file, problem = read_model(path), ""
    except ModelError as error:
        if not path.is_file() or path.stat().st_size > limits.MODEL_BYTES_MOST:
            raise
        file, problem = _without_card(path.read_bytes(), path, error), str(error)
    members = tuple(Member(name, len(content)) for name, content in file.members.items())
    return Opened(file, _flatbuffer_bytes(file), members, problem)


def card_facts(file: ModelFile, specs: PortSpecs, problem: str = "") -> tuple[ResolvedCard | None, CardFacts]:
    """What each tensor is for, as the device would settle it without a configuration. ``specs``: of inputs and outputs;
    ``problem``: why the file's own card could not be read."""
    raw = file.card
    present = raw is not None or bool(problem)
    if problem:
        return None, CardFacts(present, error=problem)
    try:
        resolved = resolve(file, *specs, None, where="a card", read_text=_no_text)
    except (ConfigError, ModelError) as error:
        provenance = (raw or {}).get("provenance", {})
        return None, CardFacts(
            present,
            error=str(error).splitlines()[0].split("; add and adapt:")[0] if present or file.metadata else SILENT,
            provenance=provenance if isinstance(provenance, dict) else {},
        )
    return resolved, CardFacts(
        present=present,
        name=resolved.name,
        version=resolved.version,
        notes=resolved.notes,
        provenance=(raw or {}).get("provenance", {}),
    )


def metadata_facts(content: bytes) -> MetadataFacts:
    """Of the TFLITE_METADATA buffer; damage is said."""
    from edge_agent.io.tflite_metadata import standard_metadata

    try:
        metadata = standard_metadata(content)
    except ValueError as error:
        return MetadataFacts(present=True, error=str(error))
    if metadata is None:
        return MetadataFacts(present=False)
    labels = [tensor.labels for tensor in (*metadata.inputs, *metadata.outputs) if tensor.labels]
    return MetadataFacts(True, metadata.name, metadata.version, tuple(dict.fromkeys(labels)))


def _without_card(content: bytes, path: Path, error: ModelError) -> ModelFile:
    """The file as it would be read without its card. Raises ``error`` where that is not what is wrong with it."""
    members = {}
    try:
        bare = bare_model(content)
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = [entry.filename for entry in archive.infolist()]
            members = {name: archive.read(name) for name in names if name != CARD_MEMBER}
    except _ZIP_DAMAGE:
        raise error from None
    if CARD_MEMBER not in names:
        raise error
    file = parse_model(with_members(bare, members), path)
    return replace(file, content=content, sha256=hashlib.sha256(content).hexdigest())


def _flatbuffer_bytes(file: ModelFile) -> int | None:
    try:
        size = len(bare_model(file.content))
    except _ZIP_DAMAGE:
        return None
    return None if file.notes and not file.members else size


def port_shape(graph: Graph, index: int) -> tuple[int, ...] | None:
    """The shape of an input or output, -1 where a run decides; None where a custom op alone knows it."""
    tensor = graph.main.tensors[index]
    if tensor.shape_signature:
        return tensor.shape_signature
    maker = next((op for op in graph.main.ops if op.custom and index in op.outputs), None)
    if maker is None:
        return ()
    place = maker.outputs.index(index)
    known = maker.name == POSTPROCESS and place < len(_POSTPROCESS_SHAPES)
    return _POSTPROCESS_SHAPES[place] if known else None


def port_specs(graph: Graph) -> PortSpecs:
    """Inputs and outputs as the runtime would describe them."""
    inputs, outputs = (
        [_spec(name, graph.main.tensors[index], port_shape(graph, index)) for index, name in side.items()]
        for side in graph.names()
    )
    return inputs, outputs


def _spec(name: str, tensor: Tensor, shape: tuple[int, ...] | None) -> TensorSpec:
    import numpy as np

    kinds = {"string": "object", "bool": "bool"}
    dtype = np.dtype(kinds.get(tensor.dtype, tensor.dtype if tensor.dtype in np.sctypeDict else "object"))
    scale, zero = (tensor.scales or (0.0,))[0], (tensor.zero_points or (0,))[0]
    return TensorSpec(name, tensor.index, tensor.shape if tensor.shape else shape or (), dtype, scale, zero)


def _no_text(name: str) -> str:
    raise ConfigError(f"{name}: no file of labels is given here")
