"""The graph inside a .tflite as values: tensors, ops, signatures. Read from the flatbuffer, not from an interpreter.

The bytes may come from anywhere. flatbuffers' accessors trust them, so each count is bounded before it is walked, and
what is read in all is bounded by the size of the file: damage is a ModelError, never a crash or a full memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from converters.tflite.graph_values import EDGETPU_OP, Graph, Op, Options, Signature, Subgraph, Tensor
from edge_agent.errors import ModelError

__all__ = ["EDGETPU_OP", "Graph", "Op", "Signature", "Subgraph", "Tensor", "read_graph"]

MINIMUM_RUNTIME = "min_runtime_version"  # name of the metadata entry that TensorFlow's converter writes
IDENTIFIER = b"TFL3"
RANK_MOST = 16
ENTRIES_MOST = 200_000  # tensors, ops, buffers: a large language model has some ten thousand
TEXT_BYTES_MOST = 4096
# What damaged flatbuffers raise: positions outside the bytes, counts that do not fit, absent tables.
_DAMAGE = (struct.error, ValueError, TypeError, IndexError, OverflowError, AttributeError, KeyError)

# Of the options' tables what is looked at, in the generated code's spelling.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "Conv2DOptions": ("Padding", "StrideW", "StrideH", "DilationWFactor", "DilationHFactor"),
    "DepthwiseConv2DOptions": (
        *("Padding", "StrideW", "StrideH", "DepthMultiplier", "DilationWFactor", "DilationHFactor"),
    ),
    "TransposeConvOptions": ("Padding", "StrideW", "StrideH"),
    "Pool2DOptions": ("Padding", "StrideW", "StrideH", "FilterWidth", "FilterHeight"),
    "FullyConnectedOptions": ("WeightsFormat", "KeepNumDims"),
    "ConcatenationOptions": ("Axis",),
    "SoftmaxOptions": ("Beta",),
    "ReducerOptions": ("KeepDims",),
    "StridedSliceOptions": ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask"),
    "PackOptions": ("Axis",),
    "SplitOptions": ("NumSplits",),
    "BatchMatMulOptions": ("AdjX", "AdjY"),
    "ResizeBilinearOptions": ("AlignCorners", "HalfPixelCenters"),
    "ResizeNearestNeighborOptions": ("AlignCorners", "HalfPixelCenters"),
    "AddOptions": (),
    "SubOptions": (),
    "MulOptions": (),
    "DivOptions": (),
    "L2NormOptions": (),
}
# Inputs that an op can't be without. Whoever looks at such an op may count on them, and on one output.
_INPUTS_LEAST: Mapping[str, int] = {
    **dict.fromkeys(("CONCATENATION", "SOFTMAX", "PACK", "QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "DENSIFY"), 1),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "PRELU", "PAD", "SPLIT"), 2),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"), 2),
    **dict.fromkeys(("TRANSPOSE_CONV", "SLICE"), 3),
    "STRIDED_SLICE": 4,
}


def read_graph(content: bytes) -> Graph:
    """The graph of a .tflite; what is appended behind it is not looked at. Raises ModelError."""
    if content[4:8] != IDENTIFIER:
        raise ModelError(f"not a TFLite model: bytes 4 to 7 are {content[4:8]!r}, expected {IDENTIFIER!r}")
    try:
        return _Reader(content).graph()
    except _DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"the model's graph is damaged ({detail}): copy or export the model again") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._content = content
        # Tables that point at the same long list over and over could make any amount out of a small file.
        self._budget = 8 * len(content) + 2**20
        self._model = schema.Model.GetRootAs(content, 0)

    def graph(self) -> Graph:
        model = self._model
        codes = [self._code(model.OperatorCodes(i)) for i in self._each(model.OperatorCodesLength())]
        self._buffers = [self._data(model.Buffers(i)) for i in self._each(model.BuffersLength())]
        subgraphs = tuple(self._subgraph(model.Subgraphs(i), codes) for i in self._each(model.SubgraphsLength()))
        if not subgraphs:
            raise ValueError("no subgraph")
        metadata = {}
        for i in self._each(model.MetadataLength()):
            entry = model.Metadata(i)
            metadata[self._text(entry, 0)] = entry.Buffer()
        return Graph(
            subgraphs=subgraphs,
            signatures=tuple(
                self._signature(model.SignatureDefs(i), subgraphs) for i in self._each(model.SignatureDefsLength())
            ),
            metadata=tuple(metadata),
            description=self._text(model, 3),
            minimum_runtime=self._minimum_runtime(metadata.get(MINIMUM_RUNTIME, -1)),
            content=self._content,
        )

    def _each(self, count: int) -> Iterator[int]:
        if count > ENTRIES_MOST:
            raise ValueError(f"a list of {count} entries")
        for index in range(count):
            self._spend(4)
            yield index

    def _spend(self, octets: int) -> None:
        self._budget -= octets
        if self._budget < 0:
            raise ValueError("its tables hold more than the file has bytes")

    def _text(self, table: Any, number: int) -> str:
        """The text in that field of a table, "" where it is absent."""
        offset = table._tab.Offset(4 + 2 * number)
        if not offset:
            return ""
        start, length = table._tab.Vector(offset), table._tab.VectorLen(offset)
        if length > TEXT_BYTES_MOST or start + length > len(self._content):
            raise ValueError(f"a text of {length} bytes")
        self._spend(length)
        return self._content[start : start + length].decode("utf-8", "replace")

    def _numbers(self, count: int, read: Any) -> list[Any]:
        """A list of numbers; ``read`` gives it as an array, or 0 where it is absent."""
        if not count:
            return []
        self._spend(8 * count)
        return [*read().tolist()]

    def _code(self, code: Any) -> tuple[str, bool, int]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # the old field has only 7 bits
        custom = number == self._schema.BuiltinOperator.CUSTOM
        builtin = _names("BuiltinOperator").get(number, f"builtin op {number}")
        return self._text(code, 1) or "custom op without a name" if custom else builtin, custom, code.Version()

    def _data(self, buffer: Any) -> tuple[int, int]:
        offset = buffer._tab.Offset(4)
        start, size = (buffer._tab.Vector(offset), buffer.DataLength()) if offset else (buffer.Offset(), buffer.Size())
        if start + size > len(self._content):
            raise ValueError(f"a constant of {size} bytes beyond the end")
        return (start, size) if size and start > 1 else (0, 0)  # offset 0 and 1 both say: no data there

    def _minimum_runtime(self, buffer: int) -> str:
        start, size = self._buffers[buffer] if 0 <= buffer < len(self._buffers) else (0, 0)
        return self._content[start : start + min(size, 64)].rstrip(b"\0").decode("ascii", "replace")

    def _subgraph(self, subgraph: Any, codes: list[tuple[str, bool, int]]) -> Subgraph:
        tensors = tuple(self._tensor(i, subgraph.Tensors(i)) for i in self._each(subgraph.TensorsLength()))
        count = len(tensors)
        return Subgraph(
            name=self._text(subgraph, 4),
            tensors=tensors,
            ops=tuple(self._op(i, subgraph.Operators(i), codes, count) for i in self._each(subgraph.OperatorsLength())),
            inputs=self._indices(subgraph.InputsLength(), subgraph.InputsAsNumpy, count),
            outputs=self._indices(subgraph.OutputsLength(), subgraph.OutputsAsNumpy, count),
        )

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        shape = self._shape(tensor.ShapeLength(), tensor.ShapeAsNumpy)
        quantization, buffer = tensor.Quantization(), tensor.Buffer()
        scales = self._numbers(quantization.ScaleLength(), quantization.ScaleAsNumpy) if quantization else []
        zeros = self._numbers(quantization.ZeroPointLength(), quantization.ZeroPointAsNumpy) if quantization else []
        return Tensor(
            index=index,
            name=self._text(tensor, 3),
            shape=shape,
            shape_signature=self._shape(tensor.ShapeSignatureLength(), tensor.ShapeSignatureAsNumpy) or shape,
            dtype=_names("TensorType").get(tensor.Type(), f"type {tensor.Type()}").lower(),
            scales=tuple(scales),
            zero_points=tuple(zeros),
            axis=quantization.QuantizedDimension() if quantization else 0,
            buffer=buffer,
            data=(0, 0) if tensor.IsVariable() else self._buffers[buffer],
            variable=bool(tensor.IsVariable()),
            sparse=tensor.Sparsity() is not None,
        )

    def _shape(self, rank: int, read: Any) -> tuple[int, ...]:
        if rank > RANK_MOST:
            raise ValueError(f"a tensor of {rank} dimensions")
        return tuple(self._numbers(rank, read))

    def _indices(self, count: int, read: Any, tensors: int, least: int = 0) -> tuple[int, ...]:
        found = self._numbers(count, read)
        for index in found:
            if not least <= index < tensors:
                raise ValueError(f"tensor {index} of {tensors}")
        return tuple(found)

    def _op(self, index: int, op: Any, codes: list[tuple[str, bool, int]], tensors: int) -> Op:
        name, custom, version = codes[op.OpcodeIndex()]
        activation, options = self._options(op)
        inputs = self._indices(op.InputsLength(), op.InputsAsNumpy, tensors, least=-1)
        outputs = self._indices(op.OutputsLength(), op.OutputsAsNumpy, tensors)
        needed = _INPUTS_LEAST.get(name, 0)
        if not custom and (len(inputs) < needed or -1 in inputs[:needed] or (needed and not outputs)):
            raise ValueError(f"op {index}, {name}, has {len(inputs)} inputs and {len(outputs)} outputs")
        return Op(
            index=index,
            name=name,
            custom=custom,
            version=version,
            inputs=inputs,
            outputs=outputs,
            activation=activation,
            options=options,
        )

    def _options(self, op: Any) -> tuple[str, Options]:
        kind = _names("BuiltinOptions").get(op.BuiltinOptionsType(), "")
        table = op.BuiltinOptions()
        if kind not in _OPTIONS or table is None:
            return "NONE", {}
        options = getattr(self._schema, kind)()
        options.Init(table.Bytes, table.Pos)
        fused = options.FusedActivationFunction() if hasattr(options, "FusedActivationFunction") else 0
        activation = _names("ActivationFunctionType").get(fused, f"activation {fused}")
        return activation, {name: getattr(options, name)() for name in _OPTIONS[kind]}

    def _signature(self, signature: Any, subgraphs: tuple[Subgraph, ...]) -> Signature:
        subgraph = signature.SubgraphIndex()
        tensors = len(subgraphs[subgraph].tensors)
        sides: list[dict[str, int]] = []
        for count, read in (
            (signature.InputsLength(), signature.Inputs),
            (signature.OutputsLength(), signature.Outputs),
        ):
            entries = [read(i) for i in self._each(count)]
            sides.append({self._text(entry, 0): entry.TensorIndex() for entry in entries})
        if any(index >= tensors for side in sides for index in side.values()):
            raise ValueError(f"a signature names a tensor of {tensors} that is not there")
        return Signature(self._text(signature, 2), subgraph, sides[0], sides[1])


@cache
def _names(enumeration: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    members = vars(getattr(schema, enumeration)).items()
    return {number: name for name, number in members if not name.startswith("_")}
