"""The examination of an ONNX model as a device and ``edge-fleet publish`` do it, by a real child."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from converters.jetson.onnx_members import bare_onnx_file, with_onnx_members
from edge_agent.children.candidate import Refusal, read_candidate
from edge_agent.children.verify import RefusedModelError, Requirements, requirements_of, verify_model
from edge_agent.config.load import LoadedConfig
from edge_agent.io.model_file import parse_model
from edge_agent.io.runtimes.onnx import version
from edge_agent.loading import load_configuration
from edge_agent.rollouts import Reason, Release
from tests.simulators.agent_toml import belt, head
from tests.simulators.onnx_models import brightness
from tests.simulators.ota_models import PIPELINE
from tests.simulators.pushed import MODEL

# Read by each Python that starts: on this device nobody has installed ONNX Runtime.
WITHOUT_ONNX_RUNTIME = """
import importlib.metadata, sys
sys.modules["onnxruntime"] = None
known = importlib.metadata.version
def version(name):
    if name.startswith("onnxruntime"):
        raise importlib.metadata.PackageNotFoundError(name)
    return known(name)
importlib.metadata.version = version
"""


@pytest.fixture
def device(tmp_path: Path) -> LoadedConfig:
    """Its own model is a .tflite; it declares no back-end for ONNX."""
    path = tmp_path / "agent.toml"
    path.write_text(head(1883) + belt() + PIPELINE + f'[model.conveyor]\npath = "{MODEL}"\n')
    return load_configuration(path)


def put(folder: Path, content: bytes) -> Path:
    path = folder / "model.tflite"  # what a device calls every model that comes over the air
    path.write_bytes(content)
    return path


def signed(content: bytes) -> Release:
    return Release(
        name="conveyor",
        version="2.0.0",
        target="models/conveyor/2.0.0.onnx",
        length=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        seq=2,
        p95_ms=10_000.0,
        memory_mb=10_000.0,
    )


def refusal(path: Path, requirements: Requirements) -> RefusedModelError:
    with pytest.raises(RefusedModelError) as caught:
        verify_model(path, requirements)
    assert "\n" not in str(caught.value)
    return caught.value


def with_members(**members: bytes | None) -> bytes:
    """The good model with other members, by the last word of their names."""
    content = brightness("2.0.0")
    kept: dict[str, bytes | None] = dict(parse_model(content, Path("m.onnx")).members)
    for name in list(kept):
        word = name.rpartition("/")[2].partition(".")[0]
        kept[name] = members.get(word, kept[name])
    return with_onnx_members(bare_onnx_file(content), {name: data for name, data in kept.items() if data is not None})


def test_a_good_model_passes_on_a_device_whose_own_model_is_a_tflite(device: LoadedConfig, tmp_path: Path) -> None:
    content = brightness("2.0.0")
    evidence = verify_model(put(tmp_path, content), requirements_of(device, signed(content)))
    assert (evidence["delegate"], evidence["golden_samples"], evidence["golden_worst_lsb"]) == ("onnx-cpu", 1, 0)
    assert 0 < evidence["p50_ms"] <= evidence["p95_ms"]
    assert 0 < evidence["memory_mb"] < 1000


def test_a_device_without_onnx_runtime_refuses_it_as_incompatible_and_says_what_to_install(
    device: LoadedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT_ONNX_RUNTIME)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])  # children get it as PYTHONPATH
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    content = brightness("2.0.0")
    error = refusal(put(tmp_path, content), requirements_of(device, signed(content)))
    assert (error.reason, error.final) == (Reason.INCOMPATIBLE, True)
    assert ".onnx models need ONNX Runtime" in str(error)
    assert "pip install onnxruntime" in str(error)


def test_a_device_whose_onnx_runtime_does_not_load_says_so_and_not_that_the_model_is_bad(
    device: LoadedConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "onnxruntime.py").write_text('raise ImportError("libcudart.so.12: cannot open")')
    monkeypatch.syspath_prepend(tmp_path / "site")
    content = brightness("2.0.0")
    error = refusal(put(tmp_path, content), requirements_of(device, signed(content)))
    assert error.reason is Reason.INCOMPATIBLE
    assert "libcudart.so.12: cannot open" in str(error)


def test_other_weights_are_found_out_by_the_golden_samples(tmp_path: Path) -> None:
    other = with_onnx_members(
        bare_onnx_file(brightness("2.0.0", more=0.5)),
        parse_model(brightness("2.0.0"), Path("m.onnx")).members,
    )
    error = refusal(put(tmp_path, other), Requirements())
    assert error.reason is Reason.GOLDEN
    assert error.evidence["golden_worst_lsb"] == 128  # half of the output's range, in steps of 1/256


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_members(card=b"{"), "is not JSON"),
        (brightness("2.0.0").replace(b'"brightness"', b'"brightmess"'), "the digest at its end does not match"),
        (brightness("2.0.0")[:200], "reaches beyond the end"),
        (brightness("2.0.0").replace(b"ReduceMean", b"ReduceMeen"), "the digest at its end does not match"),
    ],
)
def test_a_damaged_file_is_no_model(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=words) as caught:
        read_candidate(put(tmp_path, content), Requirements())
    assert (caught.value.reason, caught.value.final) == (Reason.NOT_A_MODEL, True)


def test_one_without_golden_samples_is_refused(tmp_path: Path) -> None:
    error = refusal(put(tmp_path, with_members(golden=None)), Requirements())
    assert (error.reason, error.final) == (Reason.GOLDEN, True)
    assert "has no golden samples" in str(error)


def test_a_graph_that_onnx_runtime_refuses_is_the_models_fault(tmp_path: Path) -> None:
    good = parse_model(brightness("2.0.0"), Path("m.onnx"))
    broken = bare_onnx_file(good.content).replace(b"ReduceMean", b"ReduceMeen")
    error = refusal(put(tmp_path, with_onnx_members(broken, good.members)), Requirements())
    assert error.reason is Reason.LOAD
    assert f"{version()} does not run this model" in str(error)
