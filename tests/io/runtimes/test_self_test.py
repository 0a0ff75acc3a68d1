"""The model that doctor asks back-ends with."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from edge_agent.io.runtimes import create
from edge_agent.io.runtimes.self_test import SHAPE, self_test_model


def test_it_adds_its_input_to_itself() -> None:
    runtime = create(self_test_model(), "cpu", threads=1, external={})
    (given,), (made,) = runtime.inputs, runtime.outputs
    assert (given.shape, given.dtype, given.scale, given.zero_point) == (SHAPE, np.int8, 1.0, 0)
    assert (made.shape, made.dtype, made.scale, made.zero_point) == (SHAPE, np.int8, 2.0, 0)
    steps = np.arange(-32, 32, dtype=np.int8).reshape(SHAPE)
    assert np.array_equal(runtime.invoke({given.name: steps})[made.name], steps)  # twice the value at twice the scale
    runtime.close()


def test_doctor_can_be_loaded_where_no_runtime_is_installed() -> None:
    """It is there to say so."""
    code = "import sys; sys.modules['ai_edge_litert'] = sys.modules['tflite_runtime'] = None; "
    subprocess.run([sys.executable, "-c", code + "import edge_agent.commands.doctor"], check=True)
