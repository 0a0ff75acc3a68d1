"""The commands beside ``run``: what they print for programs has the promised form, and their exit codes hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.simulators.agent_toml import CONVEYOR, MODEL, belt, camera, head, inspect, machine
from tests.simulators.asyncapi import AsyncApi
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.command_line import edge_agent
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber

LINE = belt() + machine("media") + inspect() + MODEL


def test_check_of_the_shipped_example_opens_all_its_devices(tmp_path: Path, broker: Mosquitto) -> None:
    configuration = tmp_path / "agent.toml"
    configuration.write_text(head(broker.port) + LINE)
    ended = edge_agent(tmp_path, "check", "--devices", "--json", "--config", configuration)
    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["schema"], answer["ok"]) == (0, "edge-agent/check/1", True)
    subjects = {finding["subject"]: finding for finding in answer["findings"]}
    assert subjects["camera belt"]["detail"] == "320x240"
    assert {finding["status"] for finding in answer["findings"]} == {"ok"}
    assert {"pipeline inspect", "sensor machine", "broker"} <= subjects.keys()


def test_check_of_an_absent_camera_ends_with_3_and_of_an_absent_broker_only_warns(tmp_path: Path) -> None:
    configuration = tmp_path / "agent.toml"
    absent = camera("absent", "v4l2:/dev/video99") + machine() + inspect("p", "absent") + MODEL
    configuration.write_text(head(free_port()) + absent)
    ended = edge_agent(tmp_path, "check", "--devices", "--json", "--config", configuration)
    findings = {finding["subject"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert ended.returncode == 3
    assert "v4l2:/dev/video99" in findings["camera absent"]["detail"]
    assert findings["broker"]["status"] == "warn"


def test_doctor_says_what_would_be_used_and_why(tmp_path: Path) -> None:
    configuration = tmp_path / "agent.toml"
    configuration.write_text(head(free_port()) + LINE)
    ended = edge_agent(tmp_path, "doctor", "--json", "--config", configuration)
    answer = json.loads(ended.stdout)
    assert answer.keys() == {"schema", "ok", "checks", "delegates", "chosen"}
    assert ended.returncode == (0 if answer["ok"] else 1)
    assert all(check.keys() == {"id", "status", "detail", "fix"} for check in answer["checks"])
    assert {check["status"] for check in answer["checks"]} <= {"ok", "warn", "fail", "skip"}
    usable = [delegate["name"] for delegate in answer["delegates"] if delegate["usable"]]
    assert answer["chosen"] == usable[0]
    assert all(delegate["usable"] or delegate["reason"] for delegate in answer["delegates"])
    assert edge_agent(tmp_path, "doctor", "--config", configuration).returncode == ended.returncode


def test_bench_compares_the_bare_interpreter_with_the_whole_path(tmp_path: Path) -> None:
    ended = edge_agent(tmp_path, "bench", CONVEYOR / "model" / "conveyor.tflite", "--runs", "50", "--json")
    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["schema"], answer["runs"]) == (0, "edge-agent/bench/1", 50)
    assert all(answer[part].keys() == {"fps", "p50_ms", "p95_ms"} for part in ("raw", "pipeline"))
    assert answer["ratio"] > 0


def test_watch_prints_predictions_for_people_and_for_programs(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon]
) -> None:
    daemon(head(broker.port) + LINE)
    subscriber.wait_predictions(1)
    watch = ("watch", "--host", "127.0.0.1", "--port", str(broker.port), "--count", "3")
    shown = edge_agent(tmp_path, *watch)
    assert shown.returncode == 0
    assert shown.stdout.count("line1/inspect #") == 3
    printed = edge_agent(tmp_path, *watch, "--json")
    lines = [line for line in printed.stdout.splitlines() if '"edge-agent/prediction/1"' in line]
    assert len(lines) == 3
    for line in lines:
        AsyncApi().check("edge-agent/line1/prediction/inspect", line.encode())


def test_watch_without_a_broker_ends_with_1(tmp_path: Path) -> None:
    port = free_port()
    ended = edge_agent(tmp_path, "watch", "--host", "127.0.0.1", "--port", str(port))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith(f"edge-agent watch: 127.0.0.1:{port}")


def test_an_unknown_command_is_a_usage_error_that_lists_the_known_ones(tmp_path: Path) -> None:
    ended = edge_agent(tmp_path, "predicts")
    assert ended.returncode == 2
    assert "predict" in ended.stderr
    assert edge_agent(tmp_path, "--version").stdout.startswith("edge-agent ")
