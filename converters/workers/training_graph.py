"""The graph of a float .tflite as something to train, computing as its int8 file will: weights and activations pass
through the file's steps.

Gradients go straight through the rounding (Jacob et al. 2018, arXiv:1712.05877), and the size of a step is learnt with
the weights (Esser et al. 2020, "Learned Step Size Quantization", arXiv:1902.08153). Batch normalisation is already
folded into the weights, as on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Array, RefusedError
from converters.workers.training_ops import OPERATIONS, Node, Tensor, compute
from converters.workers.training_steps import on_steps, start_factor

# which inputs of an operation are trained: weights, bias; and the axis of the weights' output channels
_TRAINED = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "FULLY_CONNECTED": (1, 2), "TRANSPOSE_CONV": (1, 3)}
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
# operations that only move values, which lie on steps already
_MOVING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "MAX_POOL_2D", "CONCATENATION", "PAD", "SLICE")
# the device needs the same steps before and after these
_SAME_STEPS = (*_MOVING, "STRIDED_SLICE", "AVERAGE_POOL_2D", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "PADV2")
_FIXED_STEPS = ("SOFTMAX", "LOGISTIC", "TANH")  # whose kernels give one range, whatever is learnt
_QMIN, _QMAX = -128, 127
_LEAST_SCALE = 1e-9  # a channel of zeros must not divide by zero


class TrainedGraph:
    """``graph``: techniques.training_graph.TrainingGraph as JSON; ``constants`` by buffer number.

    ``weights`` and ``step_factors`` are the variables. Raises RefusedError with the operation that can't be trained.
    """

    def __init__(self, graph: Mapping[str, Any], constants: Mapping[int, Array]) -> None:
        self.tensors = graph["tensors"]
        self.ops = graph["ops"]
        self.inputs: dict[str, int] = graph["inputs"]
        self.outputs: dict[str, int] = graph["outputs"]
        self._constants = constants
        self._nodes = [self._node(op) for op in self.ops]
        self._units: dict[int, Array] = {}
        self._weights: dict[int, Any] = {}
        for op in self.ops:
            if op["kind"] in _TRAINED:
                self._make_weights(op)
        if not self._weights:
            raise RefusedError("the model has no convolution and no dense layer, so there is nothing to train")
        self._group = self._groups()
        self._factors = {group: tf.Variable(0.0) for group in self._learnt_groups()}
        # weights with one step for all channels: a huge channel would leave the others no step at all
        self._weight_factors = {
            tensor["buffer"]: tf.Variable(0.0)
            for tensor in self.tensors
            if tensor["buffer"] in self._weights and len(tensor["scale"]) == 1
        }

    @property
    def weights(self) -> list[Any]:
        """Weights and biases, each in units of its own size, so that one learning rate fits all."""
        return list(self._weights.values())

    @property
    def step_factors(self) -> list[Any]:
        """By how much each learnt step has grown: its logarithm."""
        return [*self._factors.values(), *self._weight_factors.values()]

    def trained(self) -> dict[int, Array]:
        """Weights by buffer number, float32 in the file's shapes; cut off where their steps end, so that the quantiser
        finds the same steps."""
        found = {buffer: np.asarray(self._weight(buffer), np.float32) for buffer in self._weights}
        for tensor in self.tensors:
            if (buffer := tensor["buffer"]) in self._weight_factors:
                end = _QMAX * float(self._weight_scale(tensor))
                found[buffer] = np.clip(found[buffer], -end, end)
        return found

    def start_steps(self, values: Mapping[int, Array]) -> None:
        """Begin with steps that leave most channels some, given what a few rows make of each tensor in float."""
        for group, factor in self._factors.items():
            members = [number for number, other in self._group.items() if other == group]
            scale, zero_point = _steps(self.tensors[group])
            arrays = [np.asarray(values[number]) for number in members if number in values]
            channels = [array.reshape(-1, array.shape[-1]) for array in arrays]
            factor.assign(np.log(start_factor(channels, scale, _QMIN - zero_point, _QMAX - zero_point)))
        for tensor in self.tensors:
            if (buffer := tensor["buffer"]) in self._weight_factors:
                channels = self._constants[buffer].reshape(tensor["shape"][0], -1).T
                start = start_factor([channels], tensor["scale"][0], -_QMAX, _QMAX)
                self._weight_factors[buffer].assign(np.log(start))

    def scales(self) -> dict[str, float]:
        """The step of each activation by tensor name, where it was learnt."""
        return {
            self.tensors[number]["name"]: float(self._scale(number))
            for number, group in self._group.items()
            if group in self._factors
        }

    def run(self, inputs: Mapping[str, Tensor], *, quantised: bool) -> dict[int, Tensor]:
        """Every computed tensor by number, for a batch; ``quantised``: in the steps of the int8 file."""
        values: dict[int, Tensor] = {}
        for name, number in self.inputs.items():
            values[number] = self._stepped(number, inputs[name]) if quantised else inputs[name]
        for op, node in zip(self.ops, self._nodes, strict=True):
            number = op["outputs"][0]
            result = compute(node, [self._value(source, values, quantised) for source in op["inputs"]])
            moved = op["kind"] in _MOVING and self._same_group(op)
            values[number] = self._stepped(number, result) if quantised and not moved else result
        return values

    def check(self, inputs: Mapping[str, Array], expected: Mapping[int, Array], tolerance: float) -> None:
        """Compare each operation with what the interpreter computed, relative to the tensor's largest value (at least
        1). Raises RefusedError with the first that computes something else."""
        values = self.run({name: tf.constant(array) for name, array in inputs.items()}, quantised=False)
        for op in self.ops:
            number = op["outputs"][0]
            truth = expected[number]
            size = max(1.0, float(np.abs(truth).max(initial=0.0)))
            worst = float(np.abs(values[number] - truth).max(initial=0.0)) / size
            if not worst <= tolerance:
                raise RefusedError(
                    f"{op['kind']} {self.tensors[number]['name']!r} computes something else in training than on the "
                    f"device (off by {worst:.2g}): use post-training quantisation for this model"
                )

    def source(self, number: int) -> tuple[str, int]:
        """(kind of the operation that computes a tensor, number of that operation's first input)."""
        return next(((op["kind"], op["inputs"][0]) for op in self.ops if number in op["outputs"]), ("", number))

    def _node(self, op: Mapping[str, Any]) -> Node:
        kind, numbers, output = op["kind"], op["inputs"], self.tensors[op["outputs"][0]]
        if kind not in OPERATIONS or len(op["outputs"]) != 1:
            raise RefusedError(
                f"{kind} (it computes {output['name']!r}) can't be fine-tuned here: use post-training quantisation"
            )
        if not output["shape"] or output["shape"][0] != 1:
            raise RefusedError(
                f"{kind} {output['name']!r} has the shape {list(output['shape'])}: fine-tuning needs the batch of 1 in "
                "front; use post-training quantisation"
            )
        constants = {
            position: self._constants[self.tensors[number]["buffer"]]
            for position, number in enumerate(numbers)
            if number >= 0 and self.tensors[number]["buffer"] is not None
        }
        shapes = [tuple(self.tensors[number]["shape"]) if number >= 0 else () for number in numbers]
        return Node(kind, op["activation"], op["options"], shapes, tuple(output["shape"]), constants)

    def _make_weights(self, op: Mapping[str, Any]) -> None:
        kind, numbers = op["kind"], op["inputs"]
        weights, bias = (self._float_buffer(numbers, position) for position in _TRAINED[kind])
        if weights is None:
            return
        array = self._constants[weights]
        others = tuple(axis for axis in range(array.ndim) if axis != _CHANNEL_AXIS[kind])
        unit = np.sqrt(np.mean(np.square(array), axis=others, keepdims=True))
        unit = np.where(unit > 0, unit, max(float(np.sqrt(np.mean(np.square(array)))), 1e-6))
        self._make_weight(weights, unit)
        if bias is not None:
            # a channel whose inputs are of size 1 gives values of about this size
            typical = unit.ravel() * np.sqrt(array.size / unit.size)
            self._make_weight(bias, np.maximum(np.abs(self._constants[bias]), typical))

    def _make_weight(self, buffer: int, unit: Array) -> None:
        if buffer not in self._weights:  # several operations may share it
            self._units[buffer] = np.asarray(unit, np.float32)
            self._weights[buffer] = tf.Variable(self._constants[buffer] / self._units[buffer])

    def _float_buffer(self, numbers: list[int], position: int) -> int | None:
        if position >= len(numbers) or numbers[position] < 0:
            return None
        tensor = self.tensors[numbers[position]]
        return tensor["buffer"] if tensor["dtype"] == "float32" else None

    def _groups(self) -> dict[int, int]:
        """By activation with steps, the first of those that must have the same."""
        group = {number: number for number, tensor in enumerate(self.tensors) if _has_steps(tensor)}
        for op in self.ops:
            output = op["outputs"][0]
            for number in op["inputs"] if op["kind"] in _SAME_STEPS and output in group else ():
                if number in group and _steps(self.tensors[number]) == _steps(self.tensors[output]):
                    old, new = group[output], group[number]
                    group = {key: new if value == old else value for key, value in group.items()}
        return group

    def _learnt_groups(self) -> list[int]:
        """An input's steps are given by the card, and some kernels have steps of their own."""
        fixed = {*self.inputs.values(), *(op["outputs"][0] for op in self.ops if op["kind"] in _FIXED_STEPS)}
        kept = {group for number, group in self._group.items() if number in fixed}
        return sorted(set(self._group.values()) - kept)

    def _same_group(self, op: Mapping[str, Any]) -> bool:
        sources = [number for number in op["inputs"] if number in self._group]
        return all(self._group[number] == self._group.get(op["outputs"][0]) for number in sources)

    def _weight(self, buffer: int) -> Tensor:
        return self._weights[buffer] * self._units[buffer]

    def _value(self, number: int, values: Mapping[int, Tensor], quantised: bool) -> Tensor:
        if number < 0:
            return None
        if number in values:
            return values[number]
        buffer = self.tensors[number]["buffer"]
        if buffer in self._weights:
            weight = self._weight(buffer)
            return self._stepped_weight(self.tensors[number], weight) if quantised else weight
        constant = self._constants[buffer]
        return tf.constant(_stepped_constant(self.tensors[number], constant) if quantised else constant)

    def _scale(self, number: int) -> Tensor:
        (scale,) = self.tensors[number]["scale"]
        factor = self._factors.get(self._group[number])
        return scale if factor is None else scale * tf.exp(factor)

    def _stepped(self, number: int, x: Tensor) -> Tensor:
        """``x`` on the int8 steps of that tensor; as it is where the int8 file keeps it in float."""
        if number not in self._group:
            return x
        zero_point = float(self.tensors[number]["zero_point"])
        return on_steps(x, tf.convert_to_tensor(self._scale(number)), _QMIN - zero_point, _QMAX - zero_point)

    def _weight_scale(self, tensor: Mapping[str, Any]) -> Tensor:
        return tensor["scale"][0] * tf.exp(self._weight_factors[tensor["buffer"]])

    def _stepped_weight(self, tensor: Mapping[str, Any], weight: Tensor) -> Tensor:
        """On 255 symmetric steps: learnt where one size serves the whole tensor, else up to each channel's present
        largest value, as the quantiser will choose them. A bias (32 bits) stays as it is, and so does what the int8
        file keeps in float."""
        if tensor["buffer"] in self._weight_factors:
            return on_steps(weight, self._weight_scale(tensor), -_QMAX, _QMAX)
        if not tensor["scale"]:
            return weight
        axes = [axis for axis in range(len(tensor["shape"])) if axis != tensor["axis"]]
        largest = tf.reduce_max(tf.abs(weight), axis=axes, keepdims=True)
        scale = tf.maximum(largest, _LEAST_SCALE) / _QMAX
        return weight + tf.stop_gradient(tf.round(weight / scale) * scale - weight)


def _has_steps(tensor: Mapping[str, Any]) -> bool:
    return len(tensor["scale"]) == 1 and tensor["buffer"] is None


def _steps(tensor: Mapping[str, Any]) -> tuple[float, int]:
    return tensor["scale"][0], tensor["zero_point"]


def _stepped_constant(tensor: Mapping[str, Any], constant: Array) -> Array:
    """One that is not trained, such as a factor of MUL, on the steps that the int8 file has."""
    if len(tensor["scale"]) != 1 or constant.dtype != np.float32:
        return constant
    (scale,), zero_point = tensor["scale"], tensor["zero_point"]
    steps: Array = np.clip(np.rint(constant / scale), _QMIN - zero_point, _QMAX - zero_point)
    stepped: Array = steps.astype(np.float32) * np.float32(scale)
    return stepped
