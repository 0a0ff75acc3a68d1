"""What each operation of a float .tflite computes, in TensorFlow, for a batch of any size: so it has gradients.

The graph was made for one sample: its tensors begin with a 1, and here with the batch. An operation that mixes samples,
or that is not here, is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import RefusedError

Tensor = Any  # TensorFlow has no type stubs
_PADDINGS = ("SAME", "VALID")  # enumerations of TensorFlow Lite's schema.fbs
_MIRRORS = ("REFLECT", "SYMMETRIC")


class Node:
    """One operation of the graph. ``constants`` holds the arrays of those inputs that are constants, by position."""

    def __init__(
        self,
        kind: str,
        activation: str,
        options: Mapping[str, Any],
        input_shapes: Sequence[tuple[int, ...]],
        output_shape: tuple[int, ...],
        constants: Mapping[int, Any],
    ) -> None:
        self.kind = kind
        self.activation = activation
        self.options = options
        self.input_shapes = input_shapes
        self.output_shape = output_shape
        self.constants = constants

    def axes(self, number: int, rank: int) -> list[int]:
        """The constant ``number`` as axes counted from the front."""
        return [int(axis) % rank for axis in np.ravel(self.constants[number])]


Compute = Callable[[Node, Sequence[Tensor]], Tensor]


def compute(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    """The node's only output, (n, ...). Raises RefusedError."""
    if node.activation not in _ACTIVATIONS:
        raise RefusedError(f"{node.kind} ends with the activation {node.activation}, which can't be trained here")
    try:
        result = OPERATIONS[node.kind](node, inputs)
    except KeyError as error:
        raise RefusedError(f"{node.kind} has options that can't be trained here: {error}") from error
    return _ACTIVATIONS[node.activation](result)


def _refuse_mixing(node: Node) -> None:
    raise RefusedError(f"{node.kind} works across the batch, so it can't be trained with several samples at once")


def _batched(x: Tensor, node: Node) -> Tensor:
    """``x`` in the shape of the node's output, the batch in front."""
    return tf.reshape(x, [-1, *node.output_shape[1:]])


def _with_bias(x: Tensor, inputs: Sequence[Tensor], number: int) -> Tensor:
    return x + inputs[number] if len(inputs) > number and inputs[number] is not None else x


def _strides(options: Mapping[str, Any]) -> list[int]:
    return [int(options["StrideH"]), int(options["StrideW"])]


def _dilations(options: Mapping[str, Any]) -> list[int]:
    return [int(options["DilationHFactor"]), int(options["DilationWFactor"])]


def _conv(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    if node.input_shapes[0][3] != node.input_shapes[1][3]:
        raise RefusedError("CONV_2D in groups can't be trained here; only whole and depthwise convolutions can")
    kernel = tf.transpose(inputs[1], [1, 2, 3, 0])
    padding = _PADDINGS[node.options["Padding"]]
    x = tf.nn.conv2d(inputs[0], kernel, _strides(node.options), padding, dilations=_dilations(node.options))
    return _with_bias(x, inputs, 2)


def _depthwise(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    _, height, width, produced = node.input_shapes[1]
    channels = node.input_shapes[0][3]
    kernel = tf.reshape(inputs[1], [height, width, channels, produced // channels])
    strides = [1, *_strides(node.options), 1]
    padding = _PADDINGS[node.options["Padding"]]
    x = tf.nn.depthwise_conv2d(inputs[0], kernel, strides, padding, dilations=_dilations(node.options))
    return _with_bias(x, inputs, 2)


def _transpose_conv(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    kernel = tf.transpose(inputs[1], [1, 2, 0, 3])
    shape = [tf.shape(inputs[2])[0], *node.output_shape[1:]]
    padding = _PADDINGS[node.options["Padding"]]
    x = tf.nn.conv2d_transpose(inputs[2], kernel, shape, _strides(node.options), padding)
    return _with_bias(x, inputs, 3)


def _fully_connected(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    depth = node.input_shapes[1][1]
    x = tf.matmul(tf.reshape(inputs[0], [-1, depth]), inputs[1], transpose_b=True)
    return _batched(_with_bias(x, inputs, 2), node)


def _pool(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    window = [int(node.options["FilterHeight"]), int(node.options["FilterWidth"])]
    operation = tf.nn.max_pool2d if node.kind == "MAX_POOL_2D" else tf.nn.avg_pool2d
    return operation(inputs[0], window, _strides(node.options), _PADDINGS[node.options["Padding"]])


def _reduce(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    axes = node.axes(1, len(node.input_shapes[0]))
    if 0 in axes:
        _refuse_mixing(node)
    reductions = {"MEAN": tf.reduce_mean, "SUM": tf.reduce_sum, "REDUCE_MAX": tf.reduce_max}
    return reductions[node.kind](inputs[0], axis=axes, keepdims=bool(node.options["KeepDims"]))


def _concatenation(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    axis = node.options["Axis"] % len(node.output_shape)
    if axis == 0 or node.constants:
        _refuse_mixing(node)
    return tf.concat(list(inputs), axis)


def _transpose(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    order = node.axes(1, len(node.output_shape))
    if order[0] != 0:
        _refuse_mixing(node)
    return tf.transpose(inputs[0], order)


def _pad(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    widths = np.asarray(node.constants[1])
    if widths[0].any():
        _refuse_mixing(node)
    if node.kind == "MIRROR_PAD":
        return tf.pad(inputs[0], widths, _MIRRORS[node.options["Mode"]])
    value = float(np.ravel(node.constants[2])[0]) if node.kind == "PADV2" else 0.0
    return tf.pad(inputs[0], widths, constant_values=value)


def _resize(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    nearest = node.kind == "RESIZE_NEAREST_NEIGHBOR"
    operation = tf.raw_ops.ResizeNearestNeighbor if nearest else tf.raw_ops.ResizeBilinear
    return operation(
        images=inputs[0],
        size=node.constants[1],
        align_corners=bool(node.options["AlignCorners"]),
        half_pixel_centers=bool(node.options["HalfPixelCenters"]),
    )


def _strided_slice(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    begin, end, strides = (np.array(node.constants[number]) for number in (1, 2, 3))
    options = node.options
    if strides[0] != 1 or any(options[mask] & 1 for mask in ("ShrinkAxisMask", "NewAxisMask", "EllipsisMask")):
        _refuse_mixing(node)
    return tf.strided_slice(
        inputs[0],
        begin,
        end,
        strides,
        begin_mask=options["BeginMask"] | 1,  # the whole batch
        end_mask=options["EndMask"] | 1,
        shrink_axis_mask=options["ShrinkAxisMask"],
        new_axis_mask=options["NewAxisMask"],
        ellipsis_mask=options["EllipsisMask"],
    )


def _slice(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    begin, size = (np.array(node.constants[number]) for number in (1, 2))
    return tf.slice(inputs[0], begin, [-1, *size[1:]])


def _element_by_element(operation: Callable[..., Tensor]) -> Compute:
    return lambda node, inputs: operation(*inputs)


def _clipped(x: Tensor) -> Tensor:
    return tf.clip_by_value(x, -1.0, 1.0)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "NONE": tf.identity,
    "RELU": tf.nn.relu,
    "RELU6": tf.nn.relu6,
    "RELU_N1_TO_1": _clipped,
}
OPERATIONS: dict[str, Compute] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": lambda node, inputs: tf.matmul(
        *inputs, transpose_a=bool(node.options["AdjX"]), transpose_b=bool(node.options["AdjY"])
    ),
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "CONCATENATION": _concatenation,
    "RESHAPE": lambda node, inputs: _batched(inputs[0], node),
    "SQUEEZE": lambda node, inputs: _batched(inputs[0], node),
    "EXPAND_DIMS": lambda node, inputs: _batched(inputs[0], node),
    "TRANSPOSE": _transpose,
    "PAD": _pad,
    "PADV2": _pad,
    "MIRROR_PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "ADD": _element_by_element(tf.add),
    "SUB": _element_by_element(tf.subtract),
    "MUL": _element_by_element(tf.multiply),
    "DIV": _element_by_element(tf.divide),
    "MAXIMUM": _element_by_element(tf.maximum),
    "MINIMUM": _element_by_element(tf.minimum),
    "SQUARED_DIFFERENCE": _element_by_element(tf.math.squared_difference),
    "PRELU": lambda node, inputs: tf.maximum(inputs[0], 0.0) + inputs[1] * tf.minimum(inputs[0], 0.0),
    "RELU": _element_by_element(tf.nn.relu),
    "RELU6": _element_by_element(tf.nn.relu6),
    "RELU_N1_TO_1": _element_by_element(_clipped),
    "LEAKY_RELU": lambda node, inputs: tf.nn.leaky_relu(inputs[0], node.options["Alpha"]),
    "ELU": _element_by_element(tf.nn.elu),
    "GELU": lambda node, inputs: tf.nn.gelu(inputs[0], bool(node.options["Approximate"])),
    "HARD_SWISH": lambda node, inputs: inputs[0] * tf.nn.relu6(inputs[0] + 3.0) / 6.0,
    "LOGISTIC": _element_by_element(tf.sigmoid),
    "TANH": _element_by_element(tf.tanh),
    "SOFTMAX": lambda node, inputs: tf.nn.softmax(inputs[0] * node.options["Beta"]),
    "ABS": _element_by_element(tf.abs),
    "NEG": _element_by_element(tf.negative),
    "EXP": _element_by_element(tf.exp),
    "LOG": _element_by_element(tf.math.log),
    "SQRT": _element_by_element(tf.sqrt),
    "RSQRT": _element_by_element(tf.math.rsqrt),
    "SQUARE": _element_by_element(tf.square),
}
