"""Outputs that ops of the graph read too. AI Edge Quantizer 0.10 mixes up the two kinds of readers (it calls an output
"op -1", which Python takes for the last op), so such an output gets a tensor of its own while it works.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.quantization.flatbuffer import kind_of, replace_output

_SUFFIX = b"/given"


def separate_outputs(model: Any) -> None:
    """Put a RESHAPE op that changes nothing between each output that ops read, and the outside."""
    graph = model.subgraphs[0]
    read = {index for operator in graph.operators for index in operator.inputs}
    for index in dict.fromkeys(graph.outputs):
        if index in read:
            replace_output(model, index, _reshaped(model, index))


def rejoin_outputs(model: Any) -> None:
    """Take these ops out again: the output is the tensor itself, in the type that it has now."""
    graph = model.subgraphs[0]
    for operator in list(graph.operators):
        given = operator.outputs[0] if len(operator.outputs) else -1
        if kind_of(model, operator) == "RESHAPE" and graph.tensors[given].name.endswith(_SUFFIX):
            _rejoin(model, operator, given)


def _rejoin(model: Any, operator: Any, given: int) -> None:
    graph = model.subgraphs[0]
    source = operator.inputs[0]
    graph.operators = [other for other in graph.operators if other is not operator]
    quantize = next((other for other in graph.operators if source in list(other.outputs)), None)
    if quantize is None or not _makes_integers(model, quantize):
        for other in graph.operators:
            other.inputs = [source if index == given else index for index in other.inputs]
        replace_output(model, given, source)
        return
    # a float op makes the output: nothing is gained by a detour over integers
    back = next((other for other in graph.operators if given in list(other.inputs)), None)
    replace_output(model, given if back is None else back.outputs[0], quantize.inputs[0])
    others = [other for other in graph.operators if other is not back]
    needed = any(source in list(other.inputs) for other in others)
    graph.operators = others if needed else [other for other in others if other is not quantize]


def _makes_integers(model: Any, operator: Any) -> bool:
    source = model.subgraphs[0].tensors[operator.inputs[0]]
    return kind_of(model, operator) == "QUANTIZE" and source.type == schema.TensorType.FLOAT32


def _reshaped(model: Any, index: int) -> int:
    graph = model.subgraphs[0]
    source = graph.tensors[index]
    shape = np.asarray(source.shape, np.int32)
    buffer, sizes, given = schema.BufferT(), schema.TensorT(), schema.TensorT()
    buffer.data = np.frombuffer(shape.tobytes(), np.uint8)
    model.buffers.append(buffer)
    sizes.name, sizes.shape, sizes.type = source.name + _SUFFIX + b"/shape", [len(shape)], schema.TensorType.INT32
    sizes.buffer = len(model.buffers) - 1
    given.name, given.shape, given.type, given.buffer = source.name + _SUFFIX, shape.tolist(), source.type, 0
    graph.tensors += [sizes, given]
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [index, len(graph.tensors) - 2], [len(graph.tensors) - 1]
    operator.builtinOptionsType, operator.builtinOptions = (
        schema.BuiltinOptions.ReshapeOptions,
        schema.ReshapeOptionsT(),
    )
    operator.builtinOptions.newShape = shape.tolist()
    graph.operators.append(operator)
    return len(graph.tensors) - 1
