"""What is inside a .tflite, as values: tensors, ops, signatures. See graph.py for how they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from msgspec import Struct

from edge_agent.records import Array

EDGETPU_OP = "edgetpu-custom-op"
Options = dict[str, int | float | bool]
_NUMBERS = ("float16", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


class Tensor(Struct, frozen=True):
    """``shape`` as stored, 1 where a run decides; ``shape_signature`` has -1 there. ``dtype`` is the schema's name in
    small letters. Real value = (q - zero point) * scale, one pair or one for each index along ``axis``.

    ``data`` is (first byte, bytes) of a constant in the file, (0, 0) for anything else.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    buffer: int = 0
    data: tuple[int, int] = (0, 0)
    variable: bool = False
    sparse: bool = False

    @property
    def constant_bytes(self) -> int:
        return self.data[1]

    @property
    def is_constant(self) -> bool:
        return self.data[1] > 0

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1

    @property
    def static(self) -> bool:
        """Whether its size is known before a run."""
        return all(size >= 0 for size in self.shape_signature)

    @property
    def elements(self) -> int:
        return math.prod(max(size, 0) for size in self.shape)


class Op(Struct, frozen=True):
    """``name`` is the schema's (CONV_2D), or the custom op's own. An input of -1 is one that was left out.
    ``activation`` is the fused one, "NONE" without."""

    index: int
    name: str
    custom: bool
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    options: Options = {}


class Signature(Struct, frozen=True):
    """``inputs`` and ``outputs``: the names that callers use -> tensor index."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class Subgraph(Struct, frozen=True):
    name: str
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def of(self, indices: tuple[int, ...]) -> tuple[Tensor, ...]:
        """The tensors of those indices, without those that were left out."""
        return tuple(self.tensors[index] for index in indices if index >= 0)

    def producers(self) -> dict[int, int]:
        """By tensor, the op that computes it."""
        return {tensor: op.index for op in self.ops for tensor in op.outputs}

    def consumers(self) -> dict[int, list[int]]:
        """By tensor, the ops that take it."""
        found: dict[int, list[int]] = {}
        for op in self.ops:
            for tensor in dict.fromkeys(op.inputs):
                found.setdefault(tensor, []).append(op.index)
        return found


@dataclass(frozen=True)
class Graph:
    """``metadata`` are the names of its entries; ``minimum_runtime`` is "" where the file does not say it."""

    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: tuple[str, ...]
    description: str
    minimum_runtime: str
    content: bytes = field(repr=False)

    @property
    def main(self) -> Subgraph:
        return self.subgraphs[0]

    @property
    def compiled_for_edgetpu(self) -> bool:
        return any(op.custom and op.name == EDGETPU_OP for subgraph in self.subgraphs for op in subgraph.ops)

    def values(self, tensor: Tensor) -> Array | None:
        """A constant's values in its shape, as stored; None for anything else, and where the bytes do not fit."""
        start, size = tensor.data
        if not size or tensor.dtype not in _NUMBERS:
            return None
        dtype = np.dtype(tensor.dtype)
        if size != tensor.elements * dtype.itemsize:
            return None
        return np.frombuffer(self.content, dtype, tensor.elements, start).reshape(tensor.shape)

    def names(self) -> tuple[dict[int, str], dict[int, str]]:
        """What inputs and outputs of the main subgraph are called, by tensor: as edge_agent.io.runtimes.litert names
        them, from the only signature or "serving_default", else from the tensors."""
        main = self.main
        key = self.signatures[0].key if len(self.signatures) == 1 else "serving_default"
        signature = next((one for one in self.signatures if one.key == key and one.subgraph == 0), None)
        inputs, outputs = ({index: main.tensors[index].name for index in side} for side in (main.inputs, main.outputs))
        if signature and {*signature.inputs.values(), *signature.outputs.values()} <= {*main.inputs, *main.outputs}:
            inputs |= {index: name for name, index in signature.inputs.items()}
            outputs |= {index: name for name, index in signature.outputs.items()}
        return inputs, outputs
