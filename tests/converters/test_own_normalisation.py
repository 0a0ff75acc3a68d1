"""Normalisation that a model does itself is found, with its constants; what only looks like it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converters.tflite.graph import Graph, read_graph
from converters.tflite.own_normalisation import find_own_normalisation
from edge_agent.io.runtimes.litert import load_library
from tests.converters.conveyor import MODEL
from tests.converters.handmade_models import HandmadeModel, float_hybrid

MEAN, STD = [5.0, 300.0, -2.0], [2.0, 50.0, 0.25]
Chain = Callable[[HandmadeModel, int], int]


def arithmetic(model: HandmadeModel, name: str, taken: int, constant: Any, *, first: bool = False, **rest: Any) -> int:
    """``taken`` and a constant, in that order unless ``first``; returns the output, named after the op."""
    shape = tuple(model.shape(taken))
    made = model.tensor(f"{name} of {taken}", shape)
    values = model.constant(f"constant of {name} of {taken}", constant)
    sides = [values, taken] if first else [taken, values]
    model.op(name, sides, [made], options=f"{name.title()}Options", **rest)
    return made


def normalised(*steps: tuple[str, Any]) -> Chain:
    def chain(model: HandmadeModel, taken: int) -> int:
        for name, constant in steps:
            taken = arithmetic(model, name, taken, constant)
        return taken

    return chain


def with_dense(chain: Chain, shape: Sequence[int] = (1, 3)) -> Graph:
    """``sensors`` -> chain -> a dense layer, as a graph."""
    model = HandmadeModel()
    sensors = model.tensor("serve_sensors:0", shape)
    last = chain(model, sensors)
    size = int(np.prod(model.shape(last)))
    made = model.tensor("dense", (1, 4))
    layer = [last, model.constant("weights", np.ones((4, size))), model.constant("bias", np.zeros(4))]
    model.op("FULLY_CONNECTED", layer, [made], options="FullyConnectedOptions")
    model.signature({"sensors": sensors}, {"out": made})
    return read_graph(model.content([sensors], [made]))


@pytest.mark.parametrize(
    "steps",
    [
        [("SUB", MEAN), ("DIV", STD)],
        [("SUB", MEAN), ("MUL", [1 / s for s in STD])],
        [("ADD", [-m for m in MEAN]), ("DIV", STD)],
        [("MUL", [1 / s for s in STD]), ("ADD", [-m / s for m, s in zip(MEAN, STD, strict=True)])],
    ],
)
def test_each_usual_way_to_normalise_is_found_with_mean_and_std(steps: list[tuple[str, Any]]) -> None:
    graph = with_dense(normalised(*steps))
    (found,) = find_own_normalisation(graph, ["sensors"])
    assert (found.input, found.role, found.ops) == ("sensors", "features", (0, 1))
    assert found.op_names == tuple(name for name, _ in steps)
    assert found.tensors == tuple(graph.main.tensors[op.outputs[0]].name for op in graph.main.ops[:2])
    assert found.mean == pytest.approx(MEAN, rel=1e-5)
    assert found.std == pytest.approx(STD, rel=1e-5)


def test_it_is_found_behind_a_reshape_and_a_cast() -> None:
    def chain(model: HandmadeModel, taken: int) -> int:
        shaped, cast = model.tensor("shaped", (1, 1, 3)), model.tensor("cast", (1, 1, 3))
        model.op("RESHAPE", [taken, model.constant("shape", [1, 1, 3], "int32")], [shaped])
        model.op("CAST", [shaped], [cast])
        return normalised(("SUB", MEAN), ("DIV", STD))(model, cast)

    (found,) = find_own_normalisation(with_dense(chain), ["sensors"])
    assert found.op_names == ("RESHAPE", "CAST", "SUB", "DIV")  # what is quantised before would be lost as well
    assert found.mean == pytest.approx(MEAN)


def test_features_that_are_split_normalised_one_by_one_and_joined_are_found_in_their_order() -> None:
    def chain(model: HandmadeModel, taken: int) -> int:
        parts = [model.tensor(f"part {number}", (1, 1)) for number in range(3)]
        model.op("SPLIT", [model.constant("axis", 1, "int32"), taken], parts, options="SplitOptions", numSplits=3)
        done = [normalised(("SUB", m), ("DIV", s))(model, part) for part, m, s in zip(parts, MEAN, STD, strict=True)]
        joined = model.tensor("joined", (1, 3))
        model.op("CONCATENATION", done[::-1], [joined], options="ConcatenationOptions", axis=1)
        return joined

    (found,) = find_own_normalisation(with_dense(chain), ["sensors"])
    assert found.mean == pytest.approx(MEAN)
    assert found.std == pytest.approx(STD)
    assert "CONCATENATION" not in found.op_names  # normalised values may be quantised


def test_two_inputs_that_are_joined_first_get_their_own_constants() -> None:
    model = HandmadeModel()
    speed, load = model.tensor("speed", (1, 1)), model.tensor("load", (1, 2))
    joined, made = model.tensor("joined", (1, 3)), model.tensor("dense", (1, 4))
    model.op("CONCATENATION", [load, speed], [joined], options="ConcatenationOptions", axis=1)
    last = normalised(("SUB", MEAN), ("DIV", STD))(model, joined)
    model.op("FULLY_CONNECTED", [last, model.constant("w", np.ones((4, 3))), -1], [made])
    found = find_own_normalisation(read_graph(model.content([speed, load], [made])), ["speed", "load"])
    assert {one.input: one.mean for one in found} == {"speed": (MEAN[2],), "load": tuple(MEAN[:2])}


def test_one_input_of_two_may_be_the_only_one() -> None:
    model = HandmadeModel()
    raw, ready = model.tensor("raw", (1, 3)), model.tensor("ready", (1, 2))
    last, joined, made = normalised(("SUB", MEAN))(model, raw), model.tensor("j", (1, 5)), model.tensor("d", (1, 4))
    model.op("CONCATENATION", [last, ready], [joined], options="ConcatenationOptions", axis=1)
    model.op("FULLY_CONNECTED", [joined, model.constant("w", np.ones((4, 5))), -1], [made])
    (found,) = find_own_normalisation(read_graph(model.content([raw, ready], [made])), ["raw", "ready"])
    assert (found.input, found.op_names) == ("raw", ("SUB",))


def test_a_dense_layer_of_its_own_is_no_normalisation() -> None:
    assert find_own_normalisation(with_dense(lambda model, taken: taken), ["sensors"]) == ()
    assert find_own_normalisation(read_graph(float_hybrid()), ["sensors"], ["image"]) == ()


def test_arithmetic_behind_the_first_layer_is_no_normalisation() -> None:
    model = HandmadeModel()
    sensors, hidden, made = model.tensor("sensors", (1, 3)), model.tensor("h", (1, 3)), model.tensor("m", (1, 4))
    model.op("FULLY_CONNECTED", [sensors, model.constant("w", np.ones((3, 3))), -1], [hidden])
    last = normalised(("SUB", MEAN), ("DIV", STD))(model, hidden)
    model.op("FULLY_CONNECTED", [last, model.constant("v", np.ones((4, 3))), -1], [made])
    assert find_own_normalisation(read_graph(model.content([sensors], [made])), ["sensors"]) == ()


def test_arithmetic_with_an_activation_is_a_layer() -> None:
    graph = with_dense(lambda model, taken: arithmetic(model, "ADD", taken, MEAN, fusedActivationFunction=1))
    assert find_own_normalisation(graph, ["sensors"]) == ()


def test_an_input_multiplied_with_another_is_no_normalisation() -> None:
    def chain(model: HandmadeModel, taken: int) -> int:
        made = model.tensor("square", (1, 3))
        model.op("MUL", [taken, taken], [made], options="MulOptions")
        return made

    assert find_own_normalisation(with_dense(chain), ["sensors"]) == ()


def test_a_reciprocal_is_found_though_it_has_no_mean_and_std() -> None:
    graph = with_dense(lambda model, taken: arithmetic(model, "DIV", taken, [1.0, 2.0, 3.0], first=True))
    (found,) = find_own_normalisation(graph, ["sensors"])
    assert (found.mean, found.std) == (None, None)


@pytest.mark.parametrize(
    ("steps", "mean", "std"),
    [
        ([("DIV", 255.0)], [0.0], [255.0]),
        ([("MUL", 1 / 127.5), ("SUB", 1.0)], [127.5], [127.5]),
        ([("SUB", [124.0, 117.0, 104.0])], [124.0, 117.0, 104.0], [1.0]),
    ],
)
def test_rescaling_of_a_picture_is_told_only_where_pictures_are_asked_for(
    steps: list[tuple[str, Any]], mean: list[float], std: list[float]
) -> None:
    model = HandmadeModel()
    image, made = model.tensor("image", (1, 6, 6, 3)), model.tensor("conv", (1, 6, 6, 4))
    last = normalised(*steps)(model, image)
    model.op("CONV_2D", [last, model.constant("k", np.ones((4, 3, 3, 3))), model.constant("b", np.zeros(4))], [made])
    graph = read_graph(model.content([image], [made]))
    assert find_own_normalisation(graph, []) == ()
    (found,) = find_own_normalisation(graph, [], ["image"])
    assert (found.role, found.op_names) == ("image", tuple(name for name, _ in steps))
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    assert "normalised inside the model" in found.text()


def test_constants_that_are_stored_in_half_precision_are_seen_through() -> None:
    def chain(model: HandmadeModel, taken: int) -> int:
        unpacked, made = model.tensor("unpacked", (3,)), model.tensor("made", (1, 3))
        model.op("DEQUANTIZE", [model.constant("stored", MEAN, "float16")], [unpacked])
        model.op("SUB", [taken, unpacked], [made], options="SubOptions")
        return made

    (found,) = find_own_normalisation(with_dense(chain), ["sensors"])
    assert found.op_names == ("SUB",)
    assert found.mean == pytest.approx(MEAN)


def test_the_shipped_example_has_none() -> None:
    assert find_own_normalisation(read_graph(MODEL.read_bytes()), ["sensors"], ["image"]) == ()


def test_shapes_that_do_not_fit_lose_the_constants_and_nothing_else() -> None:
    def chain(model: HandmadeModel, taken: int) -> int:
        made = model.tensor("made", (1, 3))
        model.op("SUB", [taken, model.constant("odd", np.ones((2, 7)))], [made], options="SubOptions")
        return made

    (found,) = find_own_normalisation(with_dense(chain), ["sensors"])
    assert (found.op_names, found.mean) == (("SUB",), None)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["ADD", "SUB", "MUL", "DIV"]), st.floats(0.125, 9, width=32), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_mean_and_std_are_what_the_interpreter_computes(steps: list[tuple[str, float, bool]]) -> None:
    model = HandmadeModel()
    x = last = model.tensor("x", (1, 3))
    for name, constant, first in steps:
        last = arithmetic(model, name, last, constant, first=first and name != "DIV")
    content = model.content([x], [last])
    (found,) = find_own_normalisation(read_graph(content), ["x"])
    interpreter = load_library().module.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    values = np.array([[-3.0, 0.5, 8.0]], np.float32)
    interpreter.set_tensor(x, values)
    interpreter.invoke()
    assert found.mean is not None and found.std is not None
    expected = (values - np.array(found.mean)) / np.array(found.std)
    assert np.allclose(interpreter.get_tensor(last), expected, rtol=1e-3, atol=1e-3)
