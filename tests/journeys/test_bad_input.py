"""What can't be used ends a command with one clear line and the documented code, or is counted by a running daemon."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from tests.simulators.agent_toml import CONVEYOR, MODEL, camera, head, inspect, machine, pipeline
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

CONVEYOR_MODEL = CONVEYOR / "model" / "conveyor.tflite"
PICTURE = CONVEYOR / "media" / "frames" / "0000.jpg"
Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    cache = tmp_path_factory.mktemp("cache")
    return lambda *arguments: edge_agent(cache, *arguments)


def the_line(ended: CompletedProcess[str], code: int) -> str:
    """The only line on stderr of a command that ended with ``code``, but for what a daemon logged before."""
    assert ended.returncode == code, ended
    assert "Traceback" not in ended.stderr + ended.stdout
    lines = [line for line in ended.stderr.splitlines() if not re.match(r"\d\d:\d\d:\d\d (INFO|WARNING) ", line)]
    assert len(lines) == 1, ended.stderr
    return lines[0]


def write_png_header(path: Path, side: int) -> None:
    """A picture that says that it has ``side`` x ``side`` pixels, and has none."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b""), b"IEND": b""}
    chunks = (struct.pack(">I", len(data)) + kind + data + checksum(kind + data) for kind, data in parts.items())
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def checksum(content: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(content))


# --- models ----------------------------------------------------------------------------------------------------------

MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "random bytes": (lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)), "not a TFLite model"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "HTML": (lambda path: path.write_text("<!DOCTYPE html><html><body>Not found</body></html>"), "web page"),
    "truncated": (lambda path: path.write_bytes(CONVEYOR_MODEL.read_bytes()[:20_000]), "push a sound model"),
    "a folder": (lambda path: path.mkdir(), "folder"),
    "absent": (lambda path: None, "does not exist"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_file_that_is_none_is_refused_by_every_command(kind: str, tmp_path: Path, run: Run) -> None:
    make, words = MODELS[kind]
    model = tmp_path / "model.tflite"
    make(model)
    configuration = tmp_path / "agent.toml"
    configuration.write_text(
        head(free_port())
        + camera("c", f"images:{PICTURE}")
        + pipeline("p", "c", "m")
        + f'[model.m]\npath = "{model}"\ncard = {{ task = "classification" }}\n'
    )
    for ended in (run("predict", model, "--image", PICTURE), run("run", "--config", configuration)):
        line = the_line(ended, 2)
        assert str(model) in line
        assert words in line
    checked = run("check", "--config", configuration)
    assert checked.returncode == 2
    assert words in checked.stderr
    assert all(line.startswith("fail") and "model.tflite" in line for line in checked.stderr.splitlines())


def test_a_model_for_the_edge_tpu_without_one_asks_for_it_and_ends_with_3(
    shared: Path, tmp_path: Path, run: Run
) -> None:
    model = shared / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    configuration = tmp_path / "agent.toml"
    configuration.write_text(
        head(free_port())
        + camera("c", f"images:{PICTURE}")
        + pipeline("p", "c", "m")
        + f'[model.m]\npath = "{model}"\ncard = {{ task = "classification" }}\n'
    )
    for command in (
        ("predict", model, "--image", PICTURE),
        ("run", "--config", configuration),
        ("check", "--devices", "--config", configuration),
    ):
        assert "compiled for the Edge TPU and none is available" in the_line(run(*command), 3)
    assert run("check", "--config", configuration).returncode == 0


# --- pictures and values for predict ---------------------------------------------------------------------------------

PICTURES: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("a picture says more"), "not a picture; readable are BMP"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "cut off": (lambda path: path.write_bytes(PICTURE.read_bytes()[:900]), "can't be read"),
    "20,000 x 20,000": (lambda path: write_png_header(path, 20_000), "20000 x 20000 pixels; at most 64 million"),
    "a folder": (lambda path: path.mkdir(), "folder"),
    "absent": (lambda path: None, "no such file"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_is_none_is_refused_by_predict(kind: str, tmp_path: Path, run: Run) -> None:
    make, words = PICTURES[kind]
    picture = tmp_path / "picture.png"
    make(picture)
    line = the_line(run("predict", CONVEYOR_MODEL, "--image", picture), 2)
    assert str(picture) in line
    assert words in line


def test_a_picture_of_one_pixel_is_a_picture(tmp_path: Path, run: Run) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), np.full((1, 1, 3), 99, np.uint8))
    ended = run("predict", CONVEYOR_MODEL, "--image", tmp_path / "one.png")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--feature", "weight=heavy"), "'heavy' is not a number"),
        (("--feature", "weight"), "expected NAME=VALUE"),
        (("--feature", "wieght=5"), "its features: weight, temperature, vibration"),
        ((), "takes a picture (image): add --image FILE"),
    ],
)
def test_a_value_that_does_not_fit_the_model_is_refused_by_predict(
    arguments: tuple[str, ...], words: str, run: Run
) -> None:
    image = ("--image", PICTURE) if arguments else ()
    assert words in the_line(run("predict", CONVEYOR_MODEL, *image, *arguments), 2)


# --- configurations --------------------------------------------------------------------------------------------------

GOOD = head(1883) + camera("belt", f"images:{PICTURE}") + machine("media") + inspect() + MODEL
CONFIGURATIONS = {
    "no TOML": ("[device", "agent.toml"),
    "an unknown key": (GOOD.replace("port =", "prot ="), 'did you mean "port"'),
    "a value that is not allowed": (GOOD + '[log]\nlevel = "loud"\n', '"debug"'),
    "a camera that is not there": (GOOD.replace('camera = "belt"', 'camera = "bell"'), '"belt"'),
    "plain MQTT to another host": (GOOD.replace("port =", 'host = "192.0.2.1"\nport ='), "insecure = true"),
    "live readings at any pace": (
        GOOD.replace('timeline = "media"', 'timeline = "live"').replace('0000.jpg"', '0000.jpg"\npace = "max"'),
        'pace = "media"',
    ),
    "a sensor of no known kind": (GOOD.replace('"csv:', '"cvs:'), "csv"),
    "a feature without a sensor": (
        GOOD.replace('weight = "machine.weight", ', ""),
        'add weight = "sensor.field"',
    ),
    "a feature that the model lacks": (
        GOOD.replace("weight = ", "mass = ", 1),
        "the model has no feature 'mass'; its features are: weight, temperature, vibration",
    ),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration_that_can_not_work_stops_the_start(kind: str, tmp_path: Path, run: Run) -> None:
    text, words = CONFIGURATIONS[kind]
    configuration = tmp_path / "agent.toml"
    configuration.write_text(text)
    assert words in the_line(run("run", "--config", configuration), 2)
    checked = run("check", "--config", configuration)
    assert checked.returncode == 2
    assert words in checked.stderr


def test_a_configuration_that_is_not_there_is_said(tmp_path: Path, run: Run) -> None:
    assert str(tmp_path / "agent.toml") in the_line(run("run", "--config", tmp_path / "agent.toml"), 2)


# --- pictures of a running daemon ------------------------------------------------------------------------------------


def test_broken_pictures_in_a_folder_are_counted_and_all_others_arrive(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(10):
        (pictures / f"{number}.png").write_bytes(PICTURE.read_bytes())
    (pictures / "2.png").write_bytes(b"no picture")
    (pictures / "4.png").write_bytes(PICTURE.read_bytes()[:500])
    write_png_header(pictures / "6.png", 20_000)
    cv2.imwrite(str(pictures / "8.png"), np.zeros((1, 1, 3), np.uint8))
    lines = head(broker.port) + camera("belt", f"images:{pictures}", 'pace = "max"')
    process = daemon(lines + machine("media") + inspect() + MODEL)
    wait_for(lambda: subscriber.events("camera_ended"), "the end of the pictures")
    assert process.stop() == 0, process.log
    assert [item["frame_seq"] for item in subscriber.predictions()] == [0, 1, 3, 5, 7, 8, 9]
    stats = subscriber.last("/stats")
    assert stats is not None
    counts = stats["pipelines"]["inspect"]
    assert (counts["frames"], counts["predictions"]) == (10, 7)
    assert counts["discards"] == {"unreadable": 3}
