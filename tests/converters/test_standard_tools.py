"""Our files, read by a program that is not ours: Google's tflite-support, in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from converters.device_model import DeviceModel
from edge_agent.core.card_schema import CARD_MEMBER, GOLDEN_MEMBER
from tests.converters.conveyor import MODEL

ROOT = Path(__file__).resolve().parents[2]
READ = """
import json, sys
from tflite_support import metadata
found = metadata.MetadataDisplayer.with_model_file(sys.argv[1])
files = {name: found.get_associated_file_buffer(name).hex() for name in found.get_packed_associated_file_list()}
print(json.dumps({"metadata": json.loads(found.get_metadata_json()), "files": files}))
"""


@pytest.fixture(scope="module")
def read() -> dict[str, Any]:
    """What tflite-support says of the shipped model."""
    python = Path(os.environ.get("EDGE_CONVERT_HOME", ROOT / ".environments")) / "tflite-support" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"tflite-support is not installed in {python.parents[1]}: script/test --keras does it")
    done = subprocess.run([str(python), "-c", READ, str(MODEL)], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.keras
def test_inputs_stand_in_the_order_of_the_interpreter_with_content_and_normalisation(read: dict[str, Any]) -> None:
    model = DeviceModel(MODEL.read_bytes(), path=MODEL)
    inputs = read["metadata"]["subgraph_metadata"][0]["input_tensor_metadata"]
    assert [tensor["name"] for tensor in inputs] == [spec.name for spec in model.inputs]
    image = next(tensor for tensor in inputs if tensor["name"] == "image")
    assert image["content"]["content_properties"]["color_space"] == "RGB"
    assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [255.0]}


@pytest.mark.keras
def test_the_labels_of_the_output_are_found_and_are_those_of_the_card(read: dict[str, Any]) -> None:
    (output,) = read["metadata"]["subgraph_metadata"][0]["output_tensor_metadata"]
    (file,) = output["associated_files"]
    assert file["type"] == "TENSOR_AXIS_LABELS"
    labels = bytes.fromhex(read["files"][file["name"]]).decode().split()
    assert labels == list(DeviceModel(MODEL.read_bytes(), path=MODEL).card.labels["fault"])


@pytest.mark.keras
def test_card_and_golden_samples_are_files_like_any_other(read: dict[str, Any]) -> None:
    assert {CARD_MEMBER, GOLDEN_MEMBER} <= read["files"].keys()
    assert json.loads(bytes.fromhex(read["files"][CARD_MEMBER]))["schema"] == "edge-agent/card/1"
