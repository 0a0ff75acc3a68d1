"""Gives a compiled model back the names that cards and callers use.

The compiler writes a graph anew: its inputs and outputs keep their tensors' names, the signature and the standard
metadata may be gone. They are put in front of the compiled bytes, which stay as they are at the same alignment: the
new root table points into them. Layout of a root table: schema.fbs of TensorFlow Lite, table Model.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.tflite.graph import IDENTIFIER, Graph, Signature, read_graph
from converters.tflite.metadata import METADATA_NAME
from converters.tflite.packing import packed, unpacked
from edge_agent.errors import ModelError

ALIGNMENT = 16
_BUFFERS, _METADATA, _SIGNATURES = 4, 6, 7  # fields of the table Model
_FIELDS = 8
_VERSION = 3  # of the format, the only one


def with_names_of(compiled: bytes, original: bytes) -> bytes:
    """``compiled`` with the signature and the standard metadata of the model that it was made from, where it lost
    them. Raises ModelError where inputs or outputs are not the same."""
    new, old = read_graph(compiled), read_graph(original)
    _require_same(new, old)
    signatures = [] if new.signatures else [_signature(one, new, old) for one in old.signatures if one.subgraph == 0]
    lost = METADATA_NAME in old.metadata and METADATA_NAME not in new.metadata
    metadata = _metadata(original) if lost and _port_names(new) == _port_names(old) else None
    if not signatures and metadata is None:
        return compiled
    return _with_root(compiled, signatures, metadata)


def _require_same(new: Graph, old: Graph) -> None:
    for side, mine, theirs in zip(("inputs", "outputs"), _port_names(new), _port_names(old), strict=True):
        if sorted(mine) != sorted(theirs):
            raise ModelError(
                f"the compiled model's {side} are {', '.join(mine)}, before they were {', '.join(theirs)}: the card "
                "would not fit"
            )


def _port_names(graph: Graph) -> tuple[list[str], list[str]]:
    main = graph.main
    inputs, outputs = ([main.tensors[index].name for index in side] for side in (main.inputs, main.outputs))
    return inputs, outputs


def _signature(signature: Signature, new: Graph, old: Graph) -> schema.SignatureDefT:
    main = new.main
    indices = {main.tensors[index].name: index for index in (*main.inputs, *main.outputs)}
    entry = schema.SignatureDefT()
    entry.signatureKey, entry.subgraphIndex = signature.key, 0
    entry.inputs, entry.outputs = (
        [_binding(name, indices[old.main.tensors[index].name]) for name, index in side.items()]
        for side in (signature.inputs, signature.outputs)
    )
    return entry


def _binding(name: str, index: int) -> schema.TensorMapT:
    binding = schema.TensorMapT()
    binding.name, binding.tensorIndex = name, index
    return binding


def _metadata(original: bytes) -> bytes:
    model = unpacked(original)
    entry = next(entry for entry in model.metadata if entry.name == METADATA_NAME.encode())
    return np.asarray(model.buffers[entry.buffer].data, np.uint8).tobytes()


def _with_root(content: bytes, signatures: list[schema.SignatureDefT], metadata: bytes | None) -> bytes:
    """A new root table, then a small flatbuffer with what is added, then ``content`` untouched."""
    model = schema.Model.GetRootAs(content, 0)
    added = schema.Model.GetRootAs(small := _added(signatures, metadata, model.BuffersLength()), 0)
    lists = {
        number: (_elements(added, number), _elements(model, number)) for number in (_BUFFERS, _METADATA, _SIGNATURES)
    }
    table = len(_head(0)) + 4 + 2 * _FIELDS  # position of the root table
    vectors, end = {}, table + 4 + 4 * _FIELDS
    for number, (new, old) in lists.items():
        vectors[number] = end
        end += 4 + 4 * (len(new) + len(old))
    first = _aligned(end)
    second = _aligned(first + len(small))
    out = bytearray(second)
    out[:table] = _head(table) + struct.pack(
        f"<HH{_FIELDS}H", 4 + 2 * _FIELDS, 4 + 4 * _FIELDS, *_slots(model, vectors)
    )
    struct.pack_into("<iI", out, table, 4 + 2 * _FIELDS, _VERSION)
    for number in range(1, _FIELDS):
        position = table + 4 + 4 * number
        kept = _target(model, number)
        target = vectors.get(number) or (second + kept if kept else position)
        struct.pack_into("<I", out, position, target - position)
    for number, (new, old) in lists.items():
        # indices into the old lists stay valid: what is added comes last
        targets = [second + position for position in old] + [first + position for position in new]
        struct.pack_into("<I", out, vectors[number], len(targets))
        for place, target in enumerate(targets, start=1):
            position = vectors[number] + 4 * place
            struct.pack_into("<I", out, position, target - position)
    out[first : first + len(small)] = small
    return bytes(out) + content


def _head(root: int) -> bytes:
    return struct.pack("<I", root) + IDENTIFIER


def _slots(model: Any, vectors: dict[int, int]) -> list[int]:
    """Where each field stands in the root table, 0 for one that is absent."""
    present = [number == 0 or number in vectors or _target(model, number) > 0 for number in range(_FIELDS)]
    return [4 + 4 * number if there else 0 for number, there in enumerate(present)]


def _target(model: Any, number: int) -> int:
    """The position that a field of the root table points to, 0 for an absent one."""
    offset = model._tab.Offset(4 + 2 * number)
    return int(model._tab.Indirect(model._tab.Pos + offset)) if offset else 0


def _elements(model: Any, number: int) -> list[int]:
    """The positions of the tables in one of the root table's lists."""
    start = _target(model, number)
    if not start:
        return []
    (count,) = struct.unpack_from("<I", model._tab.Bytes, start)
    return [int(model._tab.Indirect(start + 4 * place)) for place in range(1, count + 1)]


def _added(signatures: list[schema.SignatureDefT], metadata: bytes | None, buffers: int) -> bytes:
    """A flatbuffer with the new entries. ``buffers``: how many the compiled model has, the new one comes after them."""
    model = schema.ModelT()
    model.signatureDefs, model.metadata, model.buffers = signatures, [], []
    if metadata is not None:
        entry, buffer = schema.MetadataT(), schema.BufferT()
        entry.name, entry.buffer = METADATA_NAME, buffers
        buffer.data = np.frombuffer(metadata, np.uint8)
        model.metadata, model.buffers = [entry], [buffer]
    return packed(model)


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT
