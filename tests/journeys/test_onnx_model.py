"""An ONNX model from the file to the broker: as the configured model, and over the air in place of a .tflite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed: pip install '.[onnx]'")

from tests.simulators import agent_toml
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.onnx_models import CLASSES, FEATURES, brightness, whole_hybrid
from tests.simulators.ota_models import PIPELINE
from tests.simulators.ota_models import brightness as tflite_brightness
from tests.simulators.ota_site import OtaSite

PICTURE = agent_toml.CONVEYOR / "media" / "frames"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "hybrid.onnx"
    path.write_bytes(whole_hybrid())
    return path


@pytest.fixture
def configuration(model: Path) -> Path:
    features = ", ".join(f'{name} = "machine.{name}"' for name in FEATURES)
    path = model.with_name("agent.toml")
    path.write_text(
        agent_toml.head(1)
        + agent_toml.belt()
        + agent_toml.machine()
        + agent_toml.pipeline("inspect", "belt", "hybrid", f"features = {{ {features} }}")
        + f'[model.hybrid]\npath = "{model.name}"\n'
    )
    return path


def test_a_user_predicts_measures_and_checks_with_it(model: Path, configuration: Path, tmp_path: Path) -> None:
    picture = sorted(PICTURE.glob("*.jpg"))[0]
    predicted = edge_agent(tmp_path, "predict", model, "--image", picture, "--feature", "weight=3", "--json")
    assert predicted.returncode == 0, predicted.stderr
    answer = json.loads(predicted.stdout)
    assert (answer["delegate"], answer["model"]["name"]) == ("onnx-cpu", "hybrid")
    assert {item["label"] for item in answer["outputs"]["class"]["classes"]} == set(CLASSES)
    measured = edge_agent(tmp_path, "bench", model, "--runs", "10", "--json")
    assert json.loads(measured.stdout)["delegate"] == "onnx-cpu"
    checked = edge_agent(tmp_path, "check", "--config", configuration)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "onnx-cpu" in checked.stdout
    verified = edge_agent(tmp_path, "models", "verify", model, "--config", configuration)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_it_comes_over_the_air_in_place_of_a_tflite_and_runs_after_a_restart(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    factory = tmp_path / "factory.tflite"
    factory.write_bytes(tflite_brightness("1.0.0"))
    site = OtaSite(tmp_path, daemon, rest=f'{PIPELINE}[model.conveyor]\npath = "{factory}"\n')
    try:
        release = site.publish("2.0.0", brightness("2.0.0"))
        assert release.target == "models/conveyor/2.0.0.onnx"
        last = site.wait_end(site.roll_out(release))
        assert (last["state"], last["version"], last["reason"]) == ("committed", "2.0.0", None)
        site.wait_version("2.0.0")
        new = [item for item in site.subscriber.predictions() if item["model"]["version"] == "2.0.0"]
        assert {item["delegate"] for item in new} == {"onnx-cpu"}
        assert site.daemon.stop() == 0, site.daemon.log
        seen = len(site.subscriber.predictions())
        site.start()
        site.subscriber.wait_predictions(seen + 5)
        assert {item["model"]["version"] for item in site.subscriber.predictions()[seen:]} == {"2.0.0"}
    finally:
        site.close()
