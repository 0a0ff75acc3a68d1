"""The inputs and outputs of a quantised model: integer, unsigned or float, under the names that they had.

The quantiser leaves float borders with QUANTIZE behind the inputs and DEQUANTIZE before the outputs; from there every
kind of border is a small edit. What only float ops read stays float32.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.quantization.flatbuffer import kind_of, replace_output

Border = Literal["int8", "uint8", "float32"]
_UNSIGNED_OFFSET = 128  # uint8 is int8 plus this, with the same scale


def set_borders(model: Any, border: Border) -> None:
    """Change the inputs and outputs of the main graph of ``model``, whose borders are float32, to ``border``."""
    if border == "float32":
        return
    graph = model.subgraphs[0]
    for index in list(dict.fromkeys(graph.inputs)):
        readers = [operator for operator in graph.operators if index in list(operator.inputs)]
        if readers and all(kind_of(model, operator) == "QUANTIZE" for operator in readers) and _int8(graph, readers):
            _take_integers(model, index, readers, border)
    for index in list(dict.fromkeys(graph.outputs)):
        writers = [operator for operator in graph.operators if index in list(operator.outputs)]
        if len(writers) == 1 and kind_of(model, writers[0]) == "DEQUANTIZE":
            _give_integers(model, index, writers[0], border)


def _int8(graph: Any, readers: list[Any]) -> bool:
    return all(graph.tensors[operator.outputs[0]].type == schema.TensorType.INT8 for operator in readers)


def _take_integers(model: Any, index: int, readers: list[Any], border: Border) -> None:
    """The float input becomes the integer tensor of its first QUANTIZE op. That op goes where it has nothing left to
    do; another one, to another scale, stays and rescales integers."""
    graph = model.subgraphs[0]
    tensor, first = graph.tensors[index], readers[0]
    inner = first.outputs[0]
    tensor.type = schema.TensorType.INT8 if border == "int8" else schema.TensorType.UINT8
    tensor.quantization = _quantization(graph.tensors[inner], border)
    if border == "int8":
        graph.operators = [operator for operator in graph.operators if operator is not first]
        for operator in graph.operators:
            operator.inputs = [index if place == inner else place for place in operator.inputs]
        replace_output(model, inner, index)


def _give_integers(model: Any, index: int, writer: Any, border: Border) -> None:
    """The integer tensor before the DEQUANTIZE op is given, or what a QUANTIZE op makes of it for uint8. The
    DEQUANTIZE op stays where a float op of the graph reads from it too."""
    graph = model.subgraphs[0]
    inner = writer.inputs[0]
    if graph.tensors[inner].type != schema.TensorType.INT8:
        return
    if not any(index in list(operator.inputs) for operator in graph.operators):
        graph.operators = [operator for operator in graph.operators if operator is not writer]
    replace_output(model, index, inner if border == "int8" else _unsigned(model, inner))


def _unsigned(model: Any, inner: int) -> int:
    """A new tensor with the int8 tensor ``inner`` as uint8."""
    graph = model.subgraphs[0]
    tensor, operator = copy.copy(graph.tensors[inner]), schema.OperatorT()
    tensor.type, tensor.name = schema.TensorType.UINT8, tensor.name + b"_uint8"
    tensor.quantization = _quantization(tensor, "uint8")
    graph.tensors.append(tensor)
    operator.opcodeIndex = _quantize_code(model)
    operator.inputs, operator.outputs = [inner], [len(graph.tensors) - 1]
    operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
    operator.builtinOptions = schema.QuantizeOptionsT()
    graph.operators.append(operator)
    return len(graph.tensors) - 1


def _quantization(inner: Any, border: Border) -> Any:
    found = copy.deepcopy(inner.quantization)
    if border == "uint8":
        found.zeroPoint = np.asarray(found.zeroPoint, np.int64) + _UNSIGNED_OFFSET
    return found


def _quantize_code(model: Any) -> int:
    for position, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.QUANTIZE:
            return position
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
