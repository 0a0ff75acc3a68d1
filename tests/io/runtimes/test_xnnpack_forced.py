"""XNNPACK forced upon tflite-runtime, where that can be installed (Python up to 3.11, numpy 1)."""

import numpy as np
import pytest

from tests.io.runtimes.real_models import CLASSIFIER

tflite = pytest.importorskip(
    "tflite_runtime.interpreter", reason="tflite-runtime is not installed (it needs Python 3.11 at most and numpy<2)"
)

from edge_agent.io.runtimes import create  # noqa: E402
from edge_agent.io.runtimes.litert import load_library  # noqa: E402
from edge_agent.io.runtimes.probe import Probe  # noqa: E402


def test_a_quantised_model_is_delegated_though_the_library_would_not(model):
    bare = tflite.Interpreter(model_content=model(CLASSIFIER))
    bare.allocate_tensors()
    assert not any(op["op_name"] == "DELEGATE" for op in bare._get_ops_details())
    runtime = create(model(CLASSIFIER), "xnnpack", threads=1, external={}, library="tflite-runtime")
    assert runtime.info.delegated
    assert runtime.info.runtime == load_library("tflite-runtime").version


def test_its_answers_differ_from_the_plain_kernels_by_rounding_only(model):
    picture = np.random.default_rng(5).integers(0, 256, (1, 128, 128, 3), np.uint8)
    plain, forced = (
        create(model(CLASSIFIER), name, threads=1, external={}, library="tflite-runtime") for name in ("cpu", "xnnpack")
    )
    (expected,) = plain.invoke({"input": picture}).values()
    (got,) = forced.invoke({"input": picture}).values()
    assert got.argmax() == expected.argmax()
    assert abs(got.astype(int) - expected.astype(int)).max() <= 8  # of 256, gathered over all layers


def test_closing_releases_interpreter_and_delegate_in_the_right_order(model):
    for _ in range(5):
        runtime = create(model(CLASSIFIER), "xnnpack", threads=2, external={}, library="tflite-runtime")
        runtime.invoke({})
        runtime.close()


@pytest.mark.parametrize("name", ["xnnpack", "cpu"])
def test_a_child_probes_with_the_same_library(model, name):
    probe = Probe(model(CLASSIFIER), name, threads=1, external={}, library="tflite-runtime")
    result = probe.result(60)
    assert result.usable
    assert result.delegated == (name == "xnnpack")
