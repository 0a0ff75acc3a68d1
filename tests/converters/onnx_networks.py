"""Small ONNX models with fixed weights, for tests: run with the Python of the environment "onnx".

``python onnx_networks.py NAME FILE`` writes one of NETWORKS.
"""

from __future__ import annotations

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 16
RNG = np.random.default_rng(7)


def weight(name, *shape, scale=0.5):
    return numpy_helper.from_array((RNG.standard_normal(shape) * scale).astype(np.float32), name)


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(nodes, inputs, outputs, weights, opset=17):
    graph = helper.make_graph(nodes, "network", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def hybrid(image="image", chemistry="chemistry", code="code", batch=1, sensors_first=False, opset=17):
    """A picture and five sensors to four classes; ``batch`` may be a symbol."""
    nodes = [
        helper.make_node("Conv", [image, "w1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["seen"]),
        helper.make_node("Gemm", [chemistry, "w3"], ["g1"]),
        helper.make_node("Relu", ["g1"], ["felt"]),
        helper.make_node("Concat", ["seen", "felt"], ["both"], axis=1),
        helper.make_node("Gemm", ["both", "w4", "b4"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [code], axis=1),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("w2", 12, 8, 3, 3), weight("w3", 5, 6), weight("w4", 18, 4)]
    inputs = [floats(image, batch, 3, SIDE, SIDE), floats(chemistry, batch, 5)]
    if sensors_first:
        inputs.reverse()
    return model(nodes, inputs, [floats(code, batch, 4)], [*weights, weight("b4", 4)], opset)


def odd_names():
    """Names that TensorFlow can't use, and one that onnx2tf might want for itself."""
    return hybrid("input.1", "/sensors/in:0", "output_0")


def several_outputs():
    """Outputs of rank 4, 3 and 2, the classes last; only a picture as input, so that layouts are looked for with
    sample pictures."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["map"]),
        helper.make_node("Reshape", ["map", "rows"], ["boxes"]),
        helper.make_node("GlobalAveragePool", ["map"], ["p"]),
        helper.make_node("Flatten", ["p"], ["seen"]),
        helper.make_node("Gemm", ["seen", "w4"], ["code"]),
    ]
    weights = [weight("w1", 8, 3, 3, 3), weight("w4", 8, 4), numpy_helper.from_array(np.array([1, 32, 16]), "rows")]
    outputs = [floats("map", 1, 8, 8, 8), floats("boxes", 1, 32, 16), floats("code", 1, 4)]
    return model(nodes, [floats("image", 1, 3, SIDE, SIDE)], outputs, weights)


def with_state():
    """A rank 3 input that is no picture: its axes must stay."""
    nodes = [
        helper.make_node("Mul", ["state", "w"], ["scaled"]),
        helper.make_node("Add", ["scaled", "reading"], ["next"]),
        helper.make_node("ReduceMean", ["next"], ["value"], axes=[2], keepdims=0),
    ]
    inputs = [floats("reading", 1, 1, 6), floats("state", 1, 4, 6)]
    return model(nodes, inputs, [floats("next", 1, 4, 6), floats("value", 1, 4)], [weight("w", 4, 6)])


def normalised():
    """Batch normalisation behind a convolution, and the addition of a constant."""
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Add", ["r1", "offset"], ["a1"]),
        helper.make_node("Conv", ["a1", "w2"], ["map"], kernel_shape=[1, 1]),
    ]
    statistics = {"scale": [2.0] * 4, "shift": [0.5] * 4, "mean": [0.1] * 4, "var": [1.5] * 4}
    held = [numpy_helper.from_array(np.array(values, np.float32), name) for name, values in statistics.items()]
    weights = [weight("w1", 4, 3, 3, 3), weight("w2", 2, 4, 1, 1), weight("offset", 1, 4, 1, 1), *held]
    return model(nodes, [floats("image", 1, 3, SIDE, SIDE)], [floats("map", 1, 2, SIDE, SIDE)], weights)


NETWORKS = {
    "normalised": normalised,
    "hybrid": hybrid,
    "sensors_first": lambda: hybrid(sensors_first=True),
    "open_batch": lambda: hybrid(batch="N"),
    "batch_of_4": lambda: hybrid(batch=4),
    "old_opset": lambda: hybrid(opset=12),
    "other_weights": lambda: hybrid() and hybrid(),  # the second time with the numbers that follow
    "odd_names": odd_names,
    "several_outputs": several_outputs,
    "with_state": with_state,
}

if __name__ == "__main__":
    onnx.save(NETWORKS[sys.argv[1]](), sys.argv[2])
