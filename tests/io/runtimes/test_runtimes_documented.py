"""docs/runtimes.md: its example is a back-end that works, and its table names those that there are."""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edge_agent.errors import ConfigError, DeviceLostError, ModelError
from edge_agent.io.runtimes import BACKENDS, create
from edge_agent.io.runtimes.litert import load_library
from edge_agent.loading import order_for
from edge_agent.records import ModelFile

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "runtimes.md").read_text()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The code of the page as a module, with its line of registration."""
    code = re.search(r"<!-- example: .* -->\n```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    module = ModuleType("scaled")
    monkeypatch.setitem(sys.modules, "scaled", module)
    exec(compile(code[1], "docs/runtimes.md", "exec"), module.__dict__)
    monkeypatch.setitem(BACKENDS, "scaled", module.SCALED)
    return module


def test_the_example_runs_a_model_by_its_name(example: ModuleType) -> None:
    runtime = create(b"two", "scaled", threads=1, external={})
    values = {"x": np.ones((1, 4), np.float32)}
    assert (runtime.invoke(values)["y"] == 2).all()
    values["x"][:] = 5
    assert (runtime.invoke({})["y"] == 2).all()
    assert runtime.info.delegate == "scaled"
    with pytest.raises(ModelError, match="and nothing else"):
        create(b"three", "scaled", threads=1, external={})
    runtime.plugged_in = False  # type: ignore[attr-defined]
    with pytest.raises(DeviceLostError, match="scaled: unplugged"):
        runtime.invoke({})


def test_the_example_takes_its_place_in_the_order(example: ModuleType) -> None:
    file = ModelFile("m.onnx", b"two", hashlib.sha256(b"two").hexdigest(), None, None, {}, "onnx")
    assert order_for(file, ("scaled",)) == ("scaled",)
    assert order_for(file, ("scaled", "xnnpack")) == ("scaled", "xnnpack", "onnx-cpu")


def test_it_is_as_long_as_the_page_says_a_back_end_is() -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 32


def test_the_table_has_every_back_end_and_no_other() -> None:
    table = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(table) == sorted(BACKENDS)


def test_times_of_trials_are_those_of_the_code() -> None:
    assert "A trial may take 60 s, `onnx-cuda` 120 s, `gpu` 110 s, `onnx-tensorrt` 600 s" in PAGE
    times = {name: BACKENDS[name].trial_s for name in ("xnnpack", "onnx-cuda", "gpu", "onnx-tensorrt")}
    assert times == {"xnnpack": 60, "onnx-cuda": 120, "gpu": 110, "onnx-tensorrt": 600}


def test_a_library_that_is_asked_for_and_absent_is_named() -> None:
    try:
        load_library("tflite-runtime")
    except ConfigError as error:
        assert str(error).endswith("install tflite-runtime")
    else:
        pytest.skip("tflite-runtime is installed: its absence can't be seen")
