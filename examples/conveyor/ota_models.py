"""New models for the demo of models over the air, made of the example's own: a good one, and two that are bad in ways
that no look at their files can tell.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

MODEL = Path(__file__).resolve().parent / "model" / "conveyor.tflite"
CARD, GOLDEN, LABELS = "edge-agent/card.json", "edge-agent/golden.npz", "labels.txt"


def good(version: str) -> bytes:
    """The same under another version."""
    graph, members = _parts()
    return _whole(graph, members, version)


def with_misplaced_names(version: str) -> bytes:
    """Its numbers are right, its class names stand in the wrong order: only a comparison with the live model tells."""
    graph, members = _parts()
    first, *rest = members[LABELS].decode().split()
    return _whole(graph, members | {LABELS: "\n".join([*rest, first]).encode()}, version)


def with_a_logarithm(version: str) -> bytes:
    """Right for every golden sample, not a number where the readings are small: only a trial tells."""
    graph, members = _parts()
    edited = _Edited(graph)
    kept = edited.add_logarithm()
    samples = np.load(io.BytesIO(members[GOLDEN]))
    rows = [row for row in range(len(samples["input/sensors"])) if kept(samples["input/sensors"][row])]
    arrays: dict[str, npt.NDArray[Any]] = {name: samples[name][rows] for name in samples}
    arrays["output/fault"] = edited.real(arrays["output/fault"])
    golden = io.BytesIO()
    np.savez_compressed(golden, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return _whole(edited.packed(), members | {GOLDEN: golden.getvalue()}, version)


class _Edited:
    """The graph with float operators behind it: fault + 0 * log(mean of the scaled readings)."""

    def __init__(self, graph: bytes) -> None:
        self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(graph))
        self._graph = self._model.subgraphs[0]
        signature = self._model.signatureDefs[0]
        self._output = signature.outputs[0]
        self._sensors = next(entry.tensorIndex for entry in signature.inputs if entry.name == b"sensors")

    def add_logarithm(self) -> Any:
        """Returns the predicate of those (1, 3) int8 readings that are not affected."""
        fault = self._op("DEQUANTIZE", [self._output.tensorIndex], [1, 5], schema.DequantizeOptionsT())
        readings = self._op("DEQUANTIZE", [self._sensors], [1, 3], schema.DequantizeOptionsT())
        keep = schema.ReducerOptionsT()
        keep.keepDims = True
        mean = self._op("MEAN", [readings, self._constant(np.array([1], np.int32))], [1, 1], keep)
        logarithm = self._op("LOG", [mean], [1, 1])
        nothing = self._op(
            "MUL", [logarithm, self._constant(np.zeros((1, 1), np.float32))], [1, 1], schema.MulOptionsT()
        )
        self._output.tensorIndex = self._op("ADD", [fault, nothing], [1, 5], schema.AddOptionsT())
        self._fault = self._graph.tensors[self._graph.outputs[0]]
        self._graph.outputs = [self._output.tensorIndex]
        zero_point = int(self._graph.tensors[self._sensors].quantization.zeroPoint[0])
        return lambda sensors: (sensors.astype(np.int32) - zero_point).mean() > 0

    def real(self, fault: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
        """What DEQUANTIZE makes of an output."""
        quantization = self._fault.quantization
        steps = fault.astype(np.float32) - np.float32(quantization.zeroPoint[0])
        return np.asarray(steps * np.float32(quantization.scale[0]), np.float32)

    def packed(self) -> bytes:
        builder = Builder(1 << 18)
        builder.Finish(self._model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _op(self, kind: str, inputs: Sequence[int], shape: Sequence[int], options: Any = None) -> int:
        output = self._tensor(shape, schema.TensorType.FLOAT32, 0)
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 2 if kind == "DEQUANTIZE" else 1  # 2: of int8
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self._graph.operators.append(operator)
        return output

    def _constant(self, values: npt.NDArray[Any]) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        kind = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        return self._tensor(values.shape, kind, len(self._model.buffers) - 1)

    def _tensor(self, shape: Sequence[int], kind: int, buffer: int) -> int:
        tensor = schema.TensorT()
        tensor.name = f"added_{len(self._graph.tensors)}"
        tensor.shape, tensor.type, tensor.buffer = list(shape), kind, buffer
        tensor.quantization = schema.QuantizationParametersT()
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def _parts() -> tuple[bytes, dict[str, bytes]]:
    """The graph, and the members of the zip behind it."""
    content = MODEL.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        return content[: min(entry.header_offset for entry in archive.infolist())], members


def _whole(graph: bytes, members: dict[str, bytes], version: str) -> bytes:
    members = members | {CARD: json.dumps(json.loads(members[CARD]) | {"version": version}).encode()}
    made = io.BytesIO(graph)
    with zipfile.ZipFile(made, "a") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return made.getvalue()
