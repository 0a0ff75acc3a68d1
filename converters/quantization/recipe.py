"""What AI Edge Quantizer is told: a recipe for each scheme, the ops that stay float, the ranges of tensors.

Convolutions have one scale a channel. Every other weight has one a tensor: dense layers with one a channel are silently
wrong on older runtimes and refused by some accelerators.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from converters.quantization.calibration import Range
from converters.quantization.flatbuffer import Op, is_constant, ops_of
from converters.records import Scheme
from edge_agent.records import Array

_PER_CHANNEL = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
_BIAS_INPUTS = {  # where input, weights and bias stand
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
}
_WEIGHT_LEVELS = 127  # int8 weights are symmetric: -127 to 127
_LARGEST_BIAS = 2.0**30  # half of what int32 holds, so that the accumulator has room as well
_LEVELS = {8: 255, 16: 2 * 32767}


def recipe(scheme: Scheme, ops: Collection[Op], float_ops: Collection[str], outside: Collection[str]) -> Any:
    """The recipe for ``scheme``. ``float_ops``: names of ops of the main graph to leave alone; ``outside``: scopes of
    the ops of other graphs, which are left alone too."""
    from ai_edge_quantizer import algorithm_manager, qtyping, recipe_manager

    kinds, grain = qtyping.TFLOperationName, qtyping.QuantGranularity
    none = algorithm_manager.AlgorithmName.NO_QUANTIZE
    manager = recipe_manager.RecipeManager()
    if scheme == "float16":
        cast = algorithm_manager.AlgorithmName.FLOAT_CASTING
        manager.add_weight_only_config(".*", kinds.ALL_SUPPORTED, 16, algorithm_key=cast)
    elif scheme == "dynamic":
        manager.add_dynamic_config(".*", kinds.ALL_SUPPORTED, 8, grain.TENSORWISE)
        for kind in _PER_CHANNEL:
            manager.add_dynamic_config(".*", kinds(kind), 8, grain.CHANNELWISE)
    else:
        bits = bits_of(scheme)
        manager.add_static_config(".*", kinds.ALL_SUPPORTED, bits, 8, grain.TENSORWISE)
        for kind in _PER_CHANNEL:
            manager.add_static_config(".*", kinds(kind), bits, 8, grain.CHANNELWISE)
        for kind in (kinds.INPUT, kinds.OUTPUT, kinds.STABLEHLO_COMPOSITE):
            manager.add_quantization_config(".*", kind, algorithm_key=none)
    scopes = [";".join(op.outputs or op.inputs) + ";" for op in ops if op.name in float_ops]
    for scope in [*scopes, *outside]:
        manager.add_quantization_config(f"^{re.escape(scope)}$", kinds.ALL_SUPPORTED, algorithm_key=none)
    return manager.get_quantization_recipe()


def bits_of(scheme: Scheme) -> int:
    """Of an activation."""
    return 16 if scheme == "16x8" else 8


def tensor_ranges(model: Any, ranges: Mapping[str, Range], bits: int) -> dict[str, dict[str, Array]]:
    """The ranges as the quantiser reads them, new arrays (it writes into them): of activations, and of weights that
    need a wider range than their values."""
    tensors = {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}
    found = {
        name: _ends(low, high, len(tensors[name].shape)) for name, (low, high) in ranges.items() if name in tensors
    }
    for op in ops_of(model):
        if op.kind in _BIAS_INPUTS:
            found.update(_wide_enough_for_bias(model, tensors, op, ranges, bits))
    return found


def _wide_enough_for_bias(
    model: Any, tensors: Mapping[str, Any], op: Op, ranges: Mapping[str, Range], bits: int
) -> dict[str, dict[str, Array]]:
    """A bias is int32 in steps of input scale x weight scale. Weights that are nearly zero (a pruned channel) make
    that step so small that the bias is cut off, silently: their scale must be larger than they need."""
    source, weights, bias = _BIAS_INPUTS[op.kind]
    if bias >= len(op.inputs) or op.inputs[source] not in ranges:
        return {}
    weight_tensor, bias_tensor = tensors[op.inputs[weights]], tensors[op.inputs[bias]]
    if not (is_constant(model, weight_tensor) and is_constant(model, bias_tensor)):
        return {}
    low, high = ranges[op.inputs[source]]
    step = (2 * max(abs(low), abs(high)) if bits == 16 else max(high, 0.0) - min(low, 0.0)) / _LEVELS[bits]
    if step == 0:
        return {}
    needed = np.abs(_values(model, bias_tensor)).astype(np.float64) / (step * _LARGEST_BIAS) * _WEIGHT_LEVELS
    values = np.abs(_values(model, weight_tensor))
    axis = _CHANNEL_AXIS.get(op.kind)
    others = tuple(number for number in range(values.ndim) if number != axis)
    largest = values.max(axis=others, keepdims=True)
    shape = [1] * values.ndim
    if axis is not None:
        shape[axis] = -1
    needed = (needed if axis is not None else needed.max(initial=0.0)).reshape(shape)
    if (needed <= largest).all():
        return {}
    bound = np.maximum(needed, largest).astype(np.float32)
    return {op.inputs[weights]: {"min": -bound, "max": bound}}


def _values(model: Any, tensor: Any) -> Array:
    values: Array = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(tensor.shape)
    return values


def _ends(low: float, high: float, rank: int) -> dict[str, Array]:
    return {"min": np.full((1,) * rank, low, np.float32), "max": np.full((1,) * rank, high, np.float32)}
