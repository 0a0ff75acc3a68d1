"""The examination of a pushed model, by a real child: what passes, what does not, and why."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from converters.tflite.archive import bare_model
from edge_agent.assembly import load_model
from edge_agent.children.golden import require_golden
from edge_agent.children.requirements import request_for
from edge_agent.children.verify import RefusedModelError, Requirements, requirements_of, verify_model
from edge_agent.config.load import LoadedConfig
from edge_agent.core.card_schema import Golden
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import UpdateError
from edge_agent.loading import load_configuration, model_request
from edge_agent.rollouts import Reason, Release
from tests.simulators.pushed import EXAMPLE, GOLDEN, MODEL, edgetpu_build, memory_hog, pushed
from tests.simulators.waiting import wait_for


@pytest.fixture(scope="module")
def device() -> LoadedConfig:
    return load_configuration(EXAMPLE / "agent.toml")


@pytest.fixture
def put(tmp_path: Path):
    def write(content: bytes) -> Path:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return path

    return write


def release(content: bytes = b"", **changed: object) -> Release:
    fields: dict = {
        "name": "conveyor",
        "version": "2.0.0",
        "target": "models/conveyor/2.0.0.tflite",
        "length": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seq": 2,
    }
    return Release(**{**fields, **changed})


def refusal(path: Path, requirements: Requirements, **options: object) -> UpdateError:
    with pytest.raises(UpdateError) as caught:
        verify_model(path, requirements, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


def children() -> set[int]:
    own = Path(f"/proc/{os.getpid()}/task")
    lists = [(task / "children").read_text() for task in own.iterdir()]
    return {int(pid) for listed in lists for pid in listed.split()}


def live_card(device: LoadedConfig) -> ResolvedCard:
    return load_model(model_request(device, "conveyor", remember=False)).engine.card


def test_a_good_model_passes_on_its_device_with_what_was_measured(device: LoadedConfig, put) -> None:
    content = MODEL.read_bytes()
    signed = release(content, p95_ms=10_000.0, memory_mb=10_000.0)
    evidence = verify_model(put(content), requirements_of(device, signed, live_card(device)))
    assert evidence["golden_samples"] == 5
    assert evidence["golden_worst_lsb"] <= 16
    assert evidence["delegate"] in ("xnnpack", "cpu")
    assert 0 < evidence["p50_ms"] <= evidence["p95_ms"]
    assert 0 < evidence["memory_mb"] < 1000
    assert not children()


def test_other_bytes_than_the_signed_ones_are_refused_and_may_be_fetched_again(put) -> None:
    content = MODEL.read_bytes()
    path = put(content)
    other = refusal(path, Requirements(sha256="0" * 64, length=len(content)))
    assert (other.reason, other.final) == (Reason.HASH, False)
    assert "sha256" in str(other)
    shorter = refusal(path, Requirements(sha256="0" * 64, length=len(content) + 1))
    assert (shorter.reason, shorter.final) == (Reason.HASH, False)


def test_a_web_page_is_no_model(put) -> None:
    error = refusal(put(b"<html>not found</html>"), Requirements())
    assert (error.reason, error.final) == (Reason.NOT_A_MODEL, True)
    assert "web page" in str(error)


def test_a_model_that_wants_another_feature_does_not_fit_the_pipeline(device: LoadedConfig, put) -> None:
    def rename(card) -> None:
        card["inputs"][1]["features"][0]["name"] = "humidity"

    content = pushed(rename)
    error = refusal(put(content), requirements_of(device, release(content)))
    assert (error.reason, error.final) == (Reason.INCOMPATIBLE, True)
    assert "humidity" in str(error)


def test_a_model_whose_output_others_rely_on_is_gone_does_not_fit(device: LoadedConfig, put) -> None:
    def rename(card) -> None:
        card["outputs"][0]["name"] = "verdict"

    content = pushed(rename)
    error = refusal(put(content), requirements_of(device, release(content), live_card(device)))
    assert error.reason == Reason.INCOMPATIBLE
    assert '"fault" (classification)' in str(error)
    assert "verdict (classification)" in str(error)


def test_a_model_without_golden_samples_is_told_how_to_get_them(put) -> None:
    error = refusal(put(pushed(without=(GOLDEN,))), Requirements())
    assert (error.reason, error.final) == (Reason.GOLDEN, True)
    assert "edge-convert golden" in str(error)


def test_other_weights_do_not_give_the_golden_output(put) -> None:
    bare = np.frombuffer(bare_model(MODEL.read_bytes()), np.uint8).copy()
    bare[2_000:6_000] ^= 0x55
    error = refusal(put(pushed(bare=bare.tobytes())), Requirements())
    assert (error.reason, error.final) == (Reason.GOLDEN, True)
    assert isinstance(error, RefusedModelError)
    assert error.evidence["golden_worst_lsb"] > 16


def test_a_model_over_its_signed_budgets_is_refused_with_the_numbers(put) -> None:
    path = put(MODEL.read_bytes())
    slow = refusal(path, Requirements(p95_ms=1e-6))
    assert (slow.reason, slow.final) == (Reason.LATENCY, True)
    assert isinstance(slow, RefusedModelError)
    assert slow.evidence["p95_ms"] > 1e-6
    large = refusal(path, Requirements(memory_mb=1e-6))
    assert (large.reason, large.final) == (Reason.MEMORY, True)


def test_the_cards_own_budget_counts_where_none_is_signed(put) -> None:
    def add_budget(card) -> None:
        card["budgets"] = {"p95_ms": 1e-6}

    assert refusal(put(pushed(add_budget)), Requirements()).reason == Reason.LATENCY


def test_what_stands_in_for_the_daemons_device_is_not_held_to_its_latency(put, tmp_path: Path) -> None:
    """Only the daemon can have the device: its trial judges."""
    configuration = (EXAMPLE / "agent.toml").read_text() + (
        'delegates = ["npu", "xnnpack"]\n[delegate.npu]\nlibrary = "/absent/libnpu.so"\n'
    )
    assert (
        configuration.index("[model.conveyor]") < configuration.index("delegates =") < configuration.index("[delegate")
    )
    (tmp_path / "agent.toml").write_text(
        configuration.replace("media/", f"{EXAMPLE}/media/").replace("model/", f"{EXAMPLE}/model/")
    )
    content = MODEL.read_bytes()
    device = load_configuration(tmp_path / "agent.toml")
    evidence = verify_model(put(content), requirements_of(device, release(content, p95_ms=1e-6)))
    assert evidence["delegate"] == "xnnpack"
    assert evidence["p95_ms"] > 1e-6


def test_a_compiled_build_is_not_held_to_its_latency_by_the_build_for_the_processor(put) -> None:
    evidence = verify_model(put(edgetpu_build(MODEL.read_bytes())), Requirements(p95_ms=1e-6))
    assert evidence["p95_ms"] > 1e-6


def test_a_model_that_wants_more_memory_than_there_is_ends_in_its_child(put, monkeypatch) -> None:
    monkeypatch.setattr("edge_agent.children.verify.memory_most_mb", lambda: 300.0)
    error = refusal(put(memory_hog(10**9)), Requirements())
    assert error.reason in (Reason.MEMORY, Reason.LOAD)
    assert not children()


def test_no_verdict_in_time_is_a_refusal_and_leaves_no_process(put) -> None:
    error = refusal(put(MODEL.read_bytes()), Requirements(), timeout_s=0.0)
    assert (error.reason, error.final) == (Reason.TIMEOUT, True)
    assert not children()


def test_it_stops_when_told_to_and_leaves_no_process(put) -> None:
    stop = threading.Event()
    stop.set()
    error = refusal(put(MODEL.read_bytes()), Requirements(), stop=stop)
    assert (error.reason, error.final) == (Reason.WITHDRAWN, False)
    assert not children()


@pytest.mark.parametrize(
    ("number", "reason", "final"), [(signal.SIGSEGV, Reason.CRASHED, True), (signal.SIGKILL, Reason.MEMORY, False)]
)
def test_the_death_of_the_child_is_a_verdict(put, number: int, reason: Reason, final: bool) -> None:
    path, found = put(MODEL.read_bytes()), []

    def examine() -> None:
        found.append(refusal(path, Requirements()))

    before = children()
    thread = threading.Thread(target=examine)
    thread.start()
    child = wait_for(lambda: children() - before, "the child runs")
    os.kill(child.pop(), number)
    thread.join()
    assert (found[0].reason, found[0].final) == (reason, final)
    assert signal.Signals(number).name in str(found[0])


def test_of_a_build_for_the_edge_tpu_the_cpu_build_inside_is_examined(put) -> None:
    evidence = verify_model(put(edgetpu_build(MODEL.read_bytes())), Requirements())
    assert evidence["golden_samples"] == 5


def test_a_build_for_the_edge_tpu_without_a_cpu_build_can_not_be_tried_first(put) -> None:
    error = refusal(put(edgetpu_build(MODEL.read_bytes(), cpu_build=False)), Requirements())
    assert (error.reason, error.final) == (Reason.LOAD, True)
    assert "edge-agent/cpu.tflite" in str(error)


def test_the_daemon_runs_the_golden_samples_once_more_on_the_engine_that_will_run(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(MODEL.read_bytes())
    model = load_model(request_for(path, Requirements()))
    assert require_golden(model)["golden_samples"] == 5
    strict = replace(model.engine.card, golden=Golden(tolerance_lsb=-1))
    model.engine.card = strict
    with pytest.raises(UpdateError, match="steps off where -1 are allowed") as caught:
        require_golden(model)
    assert (caught.value.reason, caught.value.final) == (Reason.GOLDEN, True)


def test_a_model_that_no_configuration_names_is_refused_before_any_child(device: LoadedConfig) -> None:
    with pytest.raises(UpdateError, match=r"no \[model\.other\].*conveyor") as caught:
        requirements_of(device, release(name="other"))
    assert caught.value.reason == Reason.INCOMPATIBLE
