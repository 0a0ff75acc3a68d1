"""Small ONNX models, written straight into protocol buffers (onnx.proto): the tests need no package "onnx".

Weights come from a fixed seed; the same arguments give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from converters.golden import GoldenSet, golden_bytes
from converters.jetson.onnx_members import with_onnx_members
from converters.jetson.protobuf import bytes_field, text_field, varint_field
from edge_agent.core.card_schema import CARD_MEMBER, GOLDEN_MEMBER, Golden
from edge_agent.io.runtimes import create

SIDE = 16
CLASSES = ("a", "b", "c", "d")
FEATURES = {"weight": "g", "temperature": "degC", "vibration": "mm/s"}
# onnx.proto: TensorProto.DataType
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "string": 8, "float16": 10}
_OPSET = 17


def weights(seed: int, *shape: int) -> Any:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(np.float32)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float | Sequence[int]) -> bytes:
    """NodeProto."""
    parts = [text_field(1, name) for name in inputs] + [text_field(2, name) for name in outputs]
    parts.append(text_field(4, op))
    return b"".join([*parts, *(bytes_field(5, _attribute(name, value)) for name, value in attributes.items())])


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    """AttributeProto: an int (type 2), a float (1) or a list of ints (7)."""
    if isinstance(value, float):
        return text_field(1, name) + b"\x15" + np.float32(value).tobytes() + varint_field(20, 1)
    if isinstance(value, int):
        return text_field(1, name) + varint_field(3, value) + varint_field(20, 2)
    return text_field(1, name) + b"".join(varint_field(8, item) for item in value) + varint_field(20, 7)


def tensor(name: str, array: Any) -> bytes:
    """TensorProto."""
    dims = b"".join(varint_field(1, size) for size in array.shape)
    return dims + varint_field(2, TYPES[array.dtype.name]) + text_field(8, name) + bytes_field(9, array.tobytes())


def port(name: str, shape: Sequence[int | str], dtype: str = "float32") -> bytes:
    """ValueInfoProto; a dimension that is a word is open."""
    dims = [text_field(2, size) if isinstance(size, str) else varint_field(1, size) for size in shape]
    kind = varint_field(1, TYPES[dtype]) + bytes_field(2, b"".join(bytes_field(1, dim) for dim in dims))
    return text_field(1, name) + bytes_field(2, bytes_field(1, kind))


def model(
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    held: Mapping[str, Any] | None = None,
    raw: Sequence[bytes] = (),
    opset: int = _OPSET,
) -> bytes:
    """ModelProto. ``held``: weights by name; ``raw``: further TensorProto messages."""
    graph = b"".join(bytes_field(1, item) for item in nodes) + text_field(2, "network")
    graph += b"".join(bytes_field(5, tensor(name, array)) for name, array in (held or {}).items())
    graph += b"".join(bytes_field(5, item) for item in raw)
    graph += b"".join(bytes_field(11, item) for item in inputs) + b"".join(bytes_field(12, item) for item in outputs)
    return varint_field(1, 8) + text_field(2, "tests") + bytes_field(7, graph) + bytes_field(8, varint_field(2, opset))


def hybrid(seed: int = 7, batch: int | str = 1, side: int = SIDE) -> bytes:
    """A picture (channels last) and three sensors to four classes."""
    nodes = [
        node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
        node("Conv", ["first", "w1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["c2"], ["r2"]),
        node("GlobalAveragePool", ["r2"], ["p"]),
        node("Flatten", ["p"], ["seen"]),
        node("Gemm", ["sensors", "w3"], ["g1"]),
        node("Relu", ["g1"], ["felt"]),
        node("Concat", ["seen", "felt"], ["both"], axis=1),
        node("Gemm", ["both", "w4", "b4"], ["logits"]),
        node("Softmax", ["logits"], ["code"], axis=1),
    ]
    shapes = {"w1": (8, 3, 3, 3), "w2": (12, 8, 3, 3), "w3": (3, 6), "w4": (18, 4), "b4": (4,)}
    held = {name: weights(seed + number, *shape) for number, (name, shape) in enumerate(shapes.items())}
    inputs = [port("image", [batch, side, side, 3]), port("sensors", [batch, 3])]
    return model(nodes, inputs, [port("code", [batch, 4])], held)


def hybrid_card(**said: Any) -> dict[str, Any]:
    """The card of ``hybrid``."""
    features = [{"name": name, "unit": unit, "mean": 1.0, "std": 2.0} for name, unit in FEATURES.items()]
    return {
        "schema": "edge-agent/card/1",
        "name": "hybrid",
        "version": "1.0.0",
        "inputs": [
            {"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0]},
            {"role": "features", "tensor": "sensors", "features": features},
        ],
        "outputs": [{"task": "classification", "tensor": "code", "labels": list(CLASSES)}],
        **said,
    }


def counter() -> bytes:
    """A state: next = state + reading, value = next * 2."""
    nodes = [
        node("Add", ["state", "reading"], ["next"]),
        node("Mul", ["next", "two"], ["value"]),
    ]
    inputs = [port("reading", [1, 1]), port("state", [1, 1])]
    outputs = [port("next", [1, 1]), port("value", [1, 1])]
    return model(nodes, inputs, outputs, {"two": np.array([2.0], np.float32)})


def identity(shape: Sequence[int | str] = (1, 4), dtype: str = "float32") -> bytes:
    """y = x."""
    return model([node("Identity", ["x"], ["y"])], [port("x", shape, dtype)], [port("y", shape, dtype)])


def never_finite() -> bytes:
    """y = log(-abs(x)): not finite on zeros nor on ones."""
    nodes = [node("Abs", ["x"], ["a"]), node("Neg", ["a"], ["n"]), node("Log", ["n"], ["y"])]
    return model(nodes, [port("x", [1, 4])], [port("y", [1, 4])])


def nonzero() -> bytes:
    """y = indices of the elements above zero: as many columns as there are."""
    return model([node("NonZero", ["x"], ["y"])], [port("x", [4])], [port("y", [1, "found"], "int64")])


def products(size: int, count: int) -> bytes:
    """``count`` products with a square matrix: a run that takes as long as is wanted."""
    names = ["x", *(f"h{number}" for number in range(count - 1)), "y"]
    nodes = [node("MatMul", [names[n], "w"], [names[n + 1]]) for n in range(count)]
    held = {"w": np.eye(size, dtype=np.float32) * np.float32(0.999)}
    return model(nodes, [port("x", [size, size])], [port("y", [size, size])], held)


def outside(location: str) -> bytes:
    """y = x + w, where w lies in another file."""
    entries = [text_field(1, "location") + text_field(2, location), text_field(1, "length") + text_field(2, "16")]
    raw = varint_field(1, 4) + varint_field(2, TYPES["float32"]) + text_field(8, "w")
    raw += b"".join(bytes_field(13, entry) for entry in entries) + varint_field(14, 1)
    return model([node("Add", ["x", "w"], ["y"])], [port("x", [1, 4])], [port("y", [1, 4])], raw=[raw])


def brightness(version: str, *, more: float = 0.0) -> bytes:
    """ota_models.brightness for ONNX, whole: how bright the picture is, and ``more``."""
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Add", ["mean", "more"], ["sum"]),
        node("Reshape", ["sum", "shape"], ["brightness"]),
    ]
    held = {"more": np.array([more], np.float32), "shape": np.array([1, 1])}
    bare = model(nodes, [port("image", [1, SIDE, SIDE, 3])], [port("brightness", [1, 1])], held)
    card = {
        "schema": "edge-agent/card/1",
        "name": "conveyor",
        "version": version,
        "inputs": [{"role": "image", "tensor": "image", "mean": [0.0], "std": [255.0]}],
        "outputs": [{"task": "regression", "tensor": "brightness", "name": "brightness"}],
        "golden": {"tolerance_lsb": 8},
    }
    return whole(bare, card, {"image": np.full((1, SIDE, SIDE, 3), 0.9, np.float32)})


def whole(bare: bytes, card: Mapping[str, Any], inputs: Mapping[str, Any], **members: bytes) -> bytes:
    """With its card and one golden sample: what ONNX Runtime makes of ``inputs``."""
    runtime = create(bare, "onnx-cpu", threads=1, external={})
    outputs = runtime.invoke(inputs)
    runtime.close()
    rows = [{name: array[np.newaxis] for name, array in tensors.items()} for tensors in (inputs, outputs)]
    golden = golden_bytes(GoldenSet(*rows, rule=Golden()))
    own = {CARD_MEMBER: json.dumps(card).encode(), GOLDEN_MEMBER: golden}
    return with_onnx_members(bare, {**own, **members})


def whole_hybrid(**said: Any) -> bytes:
    """``hybrid`` as a device takes it."""
    rng = np.random.default_rng(3)
    inputs = {"image": rng.random((1, SIDE, SIDE, 3), np.float32), "sensors": rng.random((1, 3), np.float32)}
    return whole(hybrid(), hybrid_card(**said), inputs)
