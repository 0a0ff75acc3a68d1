"""Samples from the camera to the converters: kept by the daemon, labelled over MQTT, exported, read as a data set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from converters.datasets import open_dataset
from converters.device_model import load_device_model
from edge_agent.io.sample_store import FOLDER, look
from tests.simulators.agent_toml import CONVEYOR, DEVICE, MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

DRIFT = '[drift]\npath = "learnt"\nreport = "1s"\nblock = "1s"\ncommissioning = "1h"\n'
LINE = belt(20) + machine("media") + inspect() + MODEL + DRIFT
StartDaemon = Callable[..., Daemon]


def test_a_sample_is_kept_labelled_exported_and_read_again(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, tmp_path: Path
) -> None:
    process = daemon(head(broker.port) + LINE + '[drift.samples]\nimages = true\ndisk = "4MiB"\n')
    folder = tmp_path / "learnt" / FOLDER
    wait_for(lambda: len(look(folder).samples) >= 3, "three samples")
    name = look(folder).samples[0].held.id
    subscriber.publish(f"edge-agent/{DEVICE}/feedback", json.dumps({"id": name, "label": "worn_bearing"}))
    wait_for(lambda: any(sample.labels for sample in look(folder).samples), "the label beside its sample")
    assert process.stop() == 0, process.log
    done = edge_agent(tmp_path, "samples", "export", tmp_path / "out", "--config", tmp_path / "agent0.toml")
    assert (done.returncode, done.stderr) == (0, "")
    dataset = open_dataset(str(tmp_path / "out"), load_device_model(CONVEYOR / "model" / "conveyor.tflite").card)
    labelled = [dataset.example(number) for number in range(len(dataset)) if dataset.example(number).labels]
    assert [example.id for example in labelled] == [name]
    assert set(labelled[0].features) == {"weight", "temperature", "vibration"}
    assert labelled[0].images["image"].ndim == 3


def test_without_room_nothing_is_kept(
    broker: Mosquitto, subscriber: Subscriber, daemon: StartDaemon, tmp_path: Path
) -> None:
    process = daemon(head(broker.port) + LINE + '[drift.samples]\nimages = true\ndisk = "0MiB"\n')
    wait_for(lambda: len(subscriber.payloads("/drift/inspect")) > 2, "some reports")
    assert process.stop() == 0, process.log
    assert (tmp_path / "learnt").is_dir()
    assert not (tmp_path / "learnt" / FOLDER).exists()
