"""Where ops would run: the XNNPACK prediction against what the interpreter really did, the rules of the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.tflite.delegated_child import taken
from converters.tflite.graph import read_graph
from converters.tflite.placement_edgetpu import predict_edgetpu
from converters.tflite.placement_gpu import predict_gpu
from converters.tflite.placement_xnnpack import measure_xnnpack, predict_xnnpack
from edge_agent.io.runtimes.litert import load_library
from tests.converters.conveyor import MODEL
from tests.converters.handmade_models import HandmadeModel, dynamic_range_hybrid, float_hybrid, one_op

PICTURE = (1, 4, 4, 4)
INT32 = np.int32
# Accepted in one type and refused in another, or by a rule of its own.
ONE_OP: list[tuple[str, list[Any], list[tuple[int, ...]], str, dict[str, Any]]] = [
    ("ADD", [PICTURE, PICTURE], [PICTURE], "float32", {"options": "AddOptions"}),
    ("ADD", [PICTURE, PICTURE], [PICTURE], "int8", {"options": "AddOptions", "version": 2}),
    ("ADD", [PICTURE, PICTURE], [PICTURE], "int16", {"options": "AddOptions", "version": 3}),
    ("MAXIMUM", [PICTURE, PICTURE], [PICTURE], "int8", {"version": 2}),
    ("MAXIMUM", [PICTURE, PICTURE], [PICTURE], "float32", {}),
    ("EXP", [PICTURE], [PICTURE], "float32", {}),
    ("SQUEEZE", [PICTURE], [(4, 4, 4)], "float32", {"options": "SqueezeOptions", "squeezeDims": [0]}),
    ("TRANSPOSE", [PICTURE, np.array([0, 2, 1, 3], INT32)], [PICTURE], "uint8", {"version": 2}),
    ("MEAN", [PICTURE, np.array([1, 2], INT32)], [(1, 4)], "int8", {"options": "ReducerOptions", "version": 2}),
    ("SPLIT", [np.array(3, INT32), PICTURE], [(1, 4, 4, 2)] * 2, "int8", {"options": "SplitOptions", "numSplits": 2}),
    ("SPLIT", [np.array(3, INT32), PICTURE], [PICTURE], "int8", {"options": "SplitOptions", "numSplits": 1}),
    ("CONCATENATION", [PICTURE] * 5, [(1, 4, 4, 20)], "int8", {"options": "ConcatenationOptions", "axis": 3}),
    ("CONCATENATION", [PICTURE] * 6, [(1, 4, 4, 24)], "int8", {"options": "ConcatenationOptions", "axis": 3}),
    ("LOG_SOFTMAX", [(1, 8)], [(1, 8)], "float32", {"options": "LogSoftmaxOptions"}),
    ("SOFTMAX", [(1, 8)], [(1, 8)], "float32", {"options": "SoftmaxOptions", "beta": 1.0}),
    ("SOFTMAX", [(1, 8)], [(1, 8)], "float32", {"options": "SoftmaxOptions", "beta": 2.0}),
]


@pytest.mark.parametrize(("name", "inputs", "outputs", "dtype", "rest"), ONE_OP)
def test_the_xnnpack_rules_say_of_one_op_what_the_interpreter_does(
    name: str, inputs: list[Any], outputs: list[tuple[int, ...]], dtype: str, rest: dict[str, Any]
) -> None:
    content = one_op(name, inputs, outputs, dtype, **rest)
    interpreter = load_library().module.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert bool(taken(interpreter)) == bool(predict_xnnpack(read_graph(content)).taken)


def agree(content: bytes) -> tuple[int, int]:
    graph = read_graph(content)
    measured, predicted = measure_xnnpack(graph), predict_xnnpack(graph)
    assert not isinstance(measured, str)
    assert measured.measured and not predicted.measured
    assert [place.taken for place in measured.places] == [place.taken for place in predicted.places]
    assert [place.reason for place in measured.places] == [place.reason for place in predicted.places]
    return measured.taken, len(measured.places)


def test_the_xnnpack_prediction_of_whole_models_is_what_the_interpreter_did() -> None:
    assert agree(MODEL.read_bytes()) == (14, 15)
    assert agree(float_hybrid()) == (7, 7)
    assert agree(dynamic_range_hybrid()) == (6, 7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mobilenet_v1_0.25_128_quant", (29, 31)),
        ("tf2_mobilenet_v2_1.0_224_ptq", (65, 68)),
        ("traffic_model", (163, 185)),
    ],
)
def test_the_xnnpack_prediction_of_public_models_is_what_the_interpreter_did(
    shared: Path, name: str, expected: tuple[int, int]
) -> None:
    assert agree((shared / "models" / f"{name}.tflite").read_bytes()) == expected


def test_a_model_that_the_interpreter_refuses_gets_the_reason_and_no_measurement() -> None:
    model = HandmadeModel()
    x, y = model.tensor("x", (1, 4)), model.tensor("y", (1, 4))
    model.op("NobodyKnowsThis", [x], [y])
    said = measure_xnnpack(read_graph(model.content([x], [y])))
    assert isinstance(said, str) and "NobodyKnowsThis" in said


def test_bytes_that_the_interpreter_can_not_load_get_a_reason_too() -> None:
    graph = read_graph(MODEL.read_bytes())
    assert isinstance(measure_xnnpack(replace(graph, content=graph.content[:3000])), str)


def test_the_gpu_takes_float_and_8_bit_and_leaves_the_rest_with_a_reason() -> None:
    assert predict_gpu(read_graph(MODEL.read_bytes())).share == 1
    assert predict_gpu(read_graph(float_hybrid())).share == 1
    sixteen = one_op("ADD", [PICTURE, PICTURE], [PICTURE], "int16", options="AddOptions")
    deep = one_op("ADD", [(1, 1, 1, 1, 4)] * 2, [(1, 1, 1, 1, 4)], options="AddOptions")
    unknown = one_op("GATHER_ND", [(4, 4), np.array([[0]], INT32)], [(1, 4)])
    reasons = [predict_gpu(read_graph(content)).left()[0].reason for content in (sixteen, deep, unknown)]
    assert reasons == ["int16 tensors", "more than 4 dimensions", "not among its ops"]


def test_shares_count_ops_and_multiply_accumulates_apart() -> None:
    """Of the int8 example only SOFTMAX, which multiplies nothing, stays outside XNNPACK."""
    predicted = predict_xnnpack(read_graph(MODEL.read_bytes()))
    assert predicted.share == pytest.approx(14 / 15)
    assert predicted.macs_share == 1
    assert predicted.first_left is not None and predicted.first_left.name == "SOFTMAX"


def test_a_model_without_multiplications_has_the_share_of_its_ops() -> None:
    content = one_op("ADD", [PICTURE, PICTURE], [PICTURE], options="AddOptions")
    assert predict_edgetpu(read_graph(content)).macs_share == 1
