"""Which layer costs what: on the real hybrid, whole and with one huge range."""

from __future__ import annotations

import numpy as np
import pytest

from converters.quantization.calibration import calibrate
from converters.quantization.sensitivity import rank_layers
from converters.records import FloatModel
from tests.simulators.float_models import digits_and_wine, inputs_of
from tests.simulators.tflite_graph import GraphBuilder

PINS = {"image": (0.0, 1.0), "chemistry": (-4.0, 4.0)}


def test_the_layers_around_a_huge_range_come_first_and_change_answers() -> None:
    model, rows = digits_and_wine(hard=True), inputs_of("calibration", 100)
    layers = rank_layers(model, calibrate(model.content, rows, pins=PINS), rows)
    assert {layer.name for layer in layers[:2]} == {"chemistry_dense", "chemistry_code"}
    assert min(layer.changed for layer in layers[:2]) > 0.2
    assert max(layer.changed for layer in layers[2:]) < 0.05
    assert min(layer.output_error for layer in layers[:2]) > 10 * max(layer.output_error for layer in layers[2:])


def test_every_layer_of_a_good_model_is_ranked_and_the_first_only_rounds() -> None:
    model, rows = digits_and_wine(), inputs_of("calibration", 100)
    layers = rank_layers(model, calibrate(model.content, rows, pins=PINS), rows)
    assert len(layers) == 11
    assert [layer.output_error for layer in layers] == sorted((layer.output_error for layer in layers), reverse=True)
    own = {layer.name: layer.own_error for layer in layers}
    assert own["conv"] == pytest.approx(np.sqrt(1 / 12), abs=0.15)
    assert all(error is not None and error < 3 for error in own.values())


def test_an_op_that_can_only_be_float_is_not_ranked() -> None:
    graph = GraphBuilder()
    source = graph.tensor("x", (1, 4))
    bent = graph.op("EXP", [graph.dense(source, np.eye(4), np.zeros(4), "before")], (1, 4), "bent")
    last = graph.dense(bent, np.eye(4), np.zeros(4), "after")
    made = FloatModel(graph.finish({"x": source}, {"y": last}), "tflite", "made.tflite", "0" * 64)
    rows = [{"x": np.random.default_rng(n).random((1, 4)).astype(np.float32)} for n in range(10)]
    layers = rank_layers(made, calibrate(made.content, rows), rows)
    assert {layer.name for layer in layers} == {"before", "after"}
