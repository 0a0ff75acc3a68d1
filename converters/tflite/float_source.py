"""A float .tflite as a source: refused where it is quantised already, brought to batch 1 and one signature.

A file that is already as wanted stays the same to the bit. Without TensorFlow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from converters.tflite.archive import with_members
from converters.tflite.packing import packed, unpacked
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model

SIGNATURE = "serving_default"
_QUANTISED_TYPES = {getattr(schema.TensorType, name): name.lower() for name in ("INT4", "INT8", "UINT8", "INT16")}
_GIVE_FLOAT = "give the float model that it was made from"


def require_float(content: bytes, where: str) -> None:
    """Raises ModelError for a damaged file and one that is quantised, compiled or sparse already."""
    if parse_model(content, Path(where)).form == "edgetpu":
        raise ModelError(f"{where} is compiled for the Edge TPU: {_GIVE_FLOAT}")
    with _damage_named(where):
        _require_float(unpacked(content), where)


def float_source(content: bytes, where: str, signature: str | None = None) -> bytes:
    """The model with batch 1 and one signature that names every input and output: the chosen one's names, else the
    tensors' own. Files behind the model stay. Raises ModelError, or ConfigError for an unknown ``signature``."""
    require_float(content, where)
    with _damage_named(where):
        model = unpacked(content)
        chosen = _choose(model, signature, where)
        changed = [_fix_batch(model, where), _complete(chosen, model.subgraphs[0])]
        if len(model.signatureDefs or ()) != 1:
            model.signatureDefs = [chosen]
        elif not any(changed):
            return content
        return with_members(packed(model), parse_model(content, Path(where)).members)


@contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """The generated code checks no offset: this is what reading mutated files raised."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError, struct.error) as error:
        raise ModelError(f"{where} is damaged: its tables can't be read ({' '.join(str(error).split())})") from error


def _require_float(model: Any, where: str) -> None:
    weights: dict[str, str] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            name = tensor.name.decode(errors="replace")
            constant = _length(model.buffers[tensor.buffer].data) > 0
            if tensor.sparsity is not None:
                raise ModelError(f"{where}: the weights {name!r} are stored sparse: convert without sparsity first")
            if tensor.type == schema.TensorType.FLOAT16 and constant:
                weights.setdefault("float16", name)
            if tensor.type in _QUANTISED_TYPES and tensor.quantization and _length(tensor.quantization.scale):
                kind = _QUANTISED_TYPES[tensor.type]
                if not constant:
                    raise ModelError(f"{where} is already quantised ({name!r} is {kind}): {_GIVE_FLOAT}")
                weights.setdefault(kind, name)
    for kind, name in weights.items():
        raise ModelError(f"{where} is already quantised: its weights ({name!r}) are {kind}: {_GIVE_FLOAT}")


def _choose(model: Any, signature: str | None, where: str) -> Any:
    """The signature to keep; a new one without names where the model has none."""
    known = {entry.signatureKey.decode(): entry for entry in model.signatureDefs or ()}
    if not known:
        if signature is not None:
            raise ConfigError(f"--signature {signature}: {where} has no signatures; leave it out")
        entry = schema.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex, entry.inputs, entry.outputs = SIGNATURE, 0, [], []
        return entry
    name = signature or (next(iter(known)) if len(known) == 1 else SIGNATURE)
    if name not in known:
        reason = f"--signature {name}: no such signature" if signature else "several signatures"
        raise ConfigError(f"{where}: {reason}; choose with --signature one of {', '.join(known)}")
    if known[name].subgraphIndex != 0:
        raise ModelError(
            f"{where}: the signature {name!r} is not of the first graph: convert with this signature alone"
        )
    return known[name]


def _complete(entry: Any, graph: Any) -> bool:
    """Name what the signature does not; whether there was anything."""
    added = False
    for side, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        names = list(getattr(entry, side) or ())
        known = {item.tensorIndex for item in names}
        missing = [int(index) for index in dict.fromkeys(tensors) if index not in known]
        setattr(entry, side, names + [_named(graph.tensors[index].name, index) for index in missing])
        added = added or bool(missing)
    return added


def _named(name: bytes, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _fix_batch(model: Any, where: str) -> bool:
    """Make an open batch 1, which the shapes in the file already assume; whether there was one."""
    graph = model.subgraphs[0]
    for index in graph.inputs:
        _require_fixed(graph.tensors[index], where)
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors if _only_batch_open(tensor)]
    for tensor in tensors:
        tensor.shapeSignature = None
    return bool(tensors)


def _require_fixed(tensor: Any, where: str) -> None:
    shape = [] if tensor.shape is None else [int(size) for size in tensor.shape]
    declared = [int(size) for size in tensor.shapeSignature] if _length(tensor.shapeSignature) else shape
    said = f"{where}: input {tensor.name.decode(errors='replace')!r} has shape {declared}"
    if any(size < 0 for size in declared[1:]):
        raise ModelError(f"{said}: only the batch may be open; convert again with fixed sizes")
    if shape[:1] != [1]:
        raise ModelError(f"{said}: the first axis must be a batch of 1; convert again with it")


def _only_batch_open(tensor: Any) -> bool:
    declared = [] if tensor.shapeSignature is None else [int(size) for size in tensor.shapeSignature]
    return declared[:1] == [-1] and min(declared[1:], default=0) >= 0


def _length(values: Any) -> int:
    return 0 if values is None else len(values)
