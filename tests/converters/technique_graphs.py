"""One float graph with a branch for every operation that can be fine-tuned."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.simulators.tflite_graph import GraphBuilder

SIDE, CHANNELS = 6, 4
SAMPLE_SHAPE = (1, SIDE, SIDE, CHANNELS)
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
RELU_N1_TO_1 = schema.ActivationFunctionType.RELU_N1_TO_1
_OLD_CODES_MOST = 127  # later operations have this number in the field of old files
RELU6 = schema.ActivationFunctionType.RELU6


def every_operation() -> bytes:
    """Input ``x`` (1, 6, 6, 4); an output for each operation, named as it with a number."""
    graph = _Graph()
    x = graph.tensor("x", SAMPLE_SHAPE)
    branches = _Branches(graph, x)
    _computing(branches)
    _moving(branches)
    for kind in (
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "ELU",
        "HARD_SWISH",
        "LOGISTIC",
        "TANH",
        "ABS",
        "NEG",
        "EXP",
        "SQUARE",
    ):
        branches.add(kind, [x], SAMPLE_SHAPE)
    positive = branches.add("EXP", [x], SAMPLE_SHAPE)
    for kind in ("LOG", "SQRT", "RSQRT"):
        branches.add(kind, [positive], SAMPLE_SHAPE)
    branches.add("LEAKY_RELU", [x], SAMPLE_SHAPE, options("LeakyRelu", alpha=0.3))
    branches.add("GELU", [x], SAMPLE_SHAPE, options("Gelu", approximate=True))
    branches.add("GELU", [x], SAMPLE_SHAPE, options("Gelu", approximate=False))
    branches.add("PRELU", [x, branches.constant((1, 1, CHANNELS))], SAMPLE_SHAPE)
    branches.add("SOFTMAX", [x], SAMPLE_SHAPE, options("Softmax", beta=0.5))
    for kind in ("ADD", "SUB", "MUL", "DIV"):
        table = options(kind.capitalize(), fusedActivationFunction=RELU_N1_TO_1)
        branches.add(kind, [x, positive], SAMPLE_SHAPE, table)
        branches.add(kind, [x, branches.constant((CHANNELS,))], SAMPLE_SHAPE, options(kind.capitalize()))
    for kind in ("MAXIMUM", "MINIMUM"):
        branches.add(kind, [x, positive], SAMPLE_SHAPE, options("MaximumMinimum"))
    branches.add("SQUARED_DIFFERENCE", [x, positive], SAMPLE_SHAPE, options("SquaredDifference"))
    return graph.finish({"x": x}, branches.outputs)


def refused(kind: str) -> bytes:
    """A graph that can't be fine-tuned: ``kind`` is an operation that is not known, or a tensor without the batch."""
    graph = GraphBuilder()
    x = graph.tensor("x", (1, 4))
    dense = graph.dense(x, np.ones((4, 4)), np.zeros(4), "dense")
    if kind == "no batch":
        turned = graph.op("RESHAPE", [dense, graph.constant("to", np.array([4, 1]))], (4, 1), "turned")
        back = graph.op("RESHAPE", [turned, graph.constant("back", np.array([1, 4]))], (1, 4), "y")
    else:
        back = graph.op(kind, [dense], (1, 4), "y")
    return graph.finish({"x": x}, {"y": back})


def options(table: str, **values: Any) -> Any:
    found = getattr(schema, f"{table}OptionsT")()
    for name, value in values.items():
        assert hasattr(found, name), (table, name)
        setattr(found, name, value)
    return found


class _Graph(GraphBuilder):
    def _code(self, builtin: int) -> int:
        found = super()._code(min(builtin, _OLD_CODES_MOST))
        self._model.operatorCodes[found].builtinCode = builtin
        return found


class _Branches:
    def __init__(self, graph: GraphBuilder, x: int) -> None:
        self.graph, self.x = graph, x
        self.outputs: dict[str, int] = {}
        self._rng = np.random.default_rng(3)
        self._constants = 0

    def add(self, kind: str, inputs: list[int], shape: tuple[int, ...], table: Any = None) -> int:
        name = f"{kind}-{len(self.outputs)}"
        self.outputs[name] = self.graph.op(kind, inputs, shape, name, table)
        return self.outputs[name]

    def constant(self, values: Any) -> int:
        """The given array; for a shape (a tuple) random numbers."""
        self._constants += 1
        array = self._rng.uniform(0.5, 1.5, values) if isinstance(values, tuple) else values
        return self.graph.constant(f"constant-{self._constants}", array)


def _computing(branches: _Branches) -> None:
    add, constant, x = branches.add, branches.constant, branches.x
    bias = constant((CHANNELS,))
    for padding, stride, dilation, size in ((SAME, 2, 1, 3), (VALID, 1, 1, 4), (SAME, 1, 2, 6)):
        table = {"padding": padding, "strideW": stride, "strideH": stride}
        table |= {"dilationWFactor": dilation, "dilationHFactor": dilation}
        add("CONV_2D", [x, constant((5, 3, 3, 4)), constant((5,))], (1, size, size, 5), options("Conv2D", **table))
        depthwise = options("DepthwiseConv2D", depthMultiplier=2, fusedActivationFunction=RELU6, **table)
        add("DEPTHWISE_CONV_2D", [x, constant((1, 3, 3, 8)), constant((8,))], (1, size, size, 8), depthwise)
    table = options("TransposeConv", padding=SAME, strideW=2, strideH=2)
    size = constant(np.array([1, 12, 12, 3]))
    add("TRANSPOSE_CONV", [size, constant((3, 3, 3, 4)), x, constant((3,))], (1, 12, 12, 3), table)
    flat = options("FullyConnected")
    add("FULLY_CONNECTED", [x, constant((7, SIDE * SIDE * CHANNELS)), constant((7,))], (1, 7), flat)
    whole = options("FullyConnected", keepNumDims=True)
    add("FULLY_CONNECTED", [x, constant((4, CHANNELS)), bias], SAMPLE_SHAPE, whole)
    add("FULLY_CONNECTED", [x, constant((4, CHANNELS)), -1], SAMPLE_SHAPE, whole)
    add("BATCH_MATMUL", [x, x], (1, SIDE, SIDE, SIDE), options("BatchMatMul", adjX=False, adjY=True))


def _moving(branches: _Branches) -> None:
    add, constant, x = branches.add, branches.constant, branches.x
    for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        for padding, size in ((VALID, 2), (SAME, 3)):
            table = {"strideW": 2, "strideH": 2, "filterWidth": 3, "filterHeight": 3}
            add(kind, [x], (1, size, size, CHANNELS), options("Pool2D", padding=padding, **table))
    for kind in ("MEAN", "SUM", "REDUCE_MAX"):
        add(kind, [x, constant(np.array([1, 2]))], (1, CHANNELS), options("Reducer"))
        add(kind, [x, constant(np.array([-1]))], (1, SIDE, SIDE, 1), options("Reducer", keepDims=True))
    add("CONCATENATION", [x, x], (1, SIDE, SIDE, 8), options("Concatenation", axis=-1))
    add("RESHAPE", [x, constant(np.array([1, 36, 4]))], (1, 36, 4))
    add("TRANSPOSE", [x, constant(np.array([0, 3, 1, 2]))], (1, CHANNELS, SIDE, SIDE))
    edges = constant(np.array([[0, 0], [1, 2], [0, 1], [0, 0]]))
    add("PAD", [x, edges], (1, 9, 7, CHANNELS))
    add("PADV2", [x, edges, constant(np.array([0.5]))], (1, 9, 7, CHANNELS))
    for mode in (schema.MirrorPadMode.REFLECT, schema.MirrorPadMode.SYMMETRIC):
        add("MIRROR_PAD", [x, edges], (1, 9, 7, CHANNELS), options("MirrorPad", mode=mode))
    large = constant(np.array([9, 12]))
    for kind, table in (("RESIZE_BILINEAR", "ResizeBilinear"), ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor")):
        for centres in (False, True):
            add(kind, [x, large], (1, 9, 12, CHANNELS), options(table, halfPixelCenters=centres))
    begin, end, steps = (constant(np.array(values)) for values in ([0, 1, 0, 0], [1, 5, 6, 4], [1, 2, 1, 1]))
    add("STRIDED_SLICE", [x, begin, end, steps], (1, 2, SIDE, CHANNELS), options("StridedSlice"))
    add("SLICE", [x, begin, constant(np.array([1, 2, 3, 4]))], (1, 2, 3, 4))
    row = add("EXPAND_DIMS", [x, constant(np.array([1]))], (1, 1, SIDE, SIDE, CHANNELS))
    squeeze = options("Squeeze", squeezeDims=[1])
    add("SQUEEZE", [row], SAMPLE_SHAPE, squeeze)
