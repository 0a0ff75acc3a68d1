"""A model's journey over the air, from the repository to the predictions: a real daemon, broker and repository."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulators.daemon import Daemon
from tests.simulators.ota_site import OtaSite, good
from tests.simulators.pushed import pushed
from tests.simulators.waiting import wait_for


@pytest.fixture
def site(tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    site = OtaSite(tmp_path, daemon)
    yield site
    site.close()


def test_a_good_model_arrives_is_tried_and_committed_and_no_frame_is_lost(site: OtaSite) -> None:
    site.subscriber.wait_predictions(10)
    last = site.wait_end(site.roll_out(site.publish("2.0.0")))
    assert (last["state"], last["version"], last["reason"]) == ("committed", "2.0.0", None)
    wait_for(lambda: "2.0.0" in site.versions(), "predictions of the new version")
    assert site.current() == "2.0.0"
    assert site.daemon.stop() == 0, site.daemon.log
    stats = site.subscriber.payloads("/stats")[-1]["pipelines"]["inspect"]
    assert stats["discards"].keys() <= {"shutdown"}  # a frame that was on its way at the end


def test_a_model_that_computes_something_else_is_rejected_and_the_live_one_goes_on(site: OtaSite) -> None:
    bad = bytearray(good("2.0.0"))
    bad[100:20_000] = bytes(19_900)
    last = site.wait_end(site.roll_out(site.publish("2.0.0", bytes(bad))))
    assert last["state"] == "rejected"
    before = len(site.subscriber.predictions())
    site.subscriber.wait_predictions(before + 10)
    assert "2.0.0" not in site.versions()


def test_a_model_over_its_budget_is_never_tried(site: OtaSite) -> None:
    last = site.wait_end(site.roll_out(site.publish("2.0.0", p95_ms=0.0001)))
    assert (last["state"], last["reason"]) == ("rejected", "latency")


def test_a_model_with_another_output_does_not_fit(site: OtaSite) -> None:
    other = pushed(lambda card: card["outputs"][0].update(name="another"))
    last = site.wait_end(site.roll_out(site.publish("2.0.0", other)))
    assert (last["state"], last["reason"]) == ("rejected", "incompatible")


def test_a_committed_model_runs_after_a_restart_and_the_operator_can_go_back(site: OtaSite) -> None:
    site.wait_end(site.roll_out(site.publish("2.0.0")))
    assert site.daemon.stop() == 0, site.daemon.log
    seen = len(site.subscriber.predictions())
    site.start()
    site.subscriber.wait_predictions(seen + 5)
    assert {item["model"]["version"] for item in site.subscriber.predictions()[seen:]} == {"2.0.0"}


def test_a_folder_that_is_deleted_under_the_daemon_is_made_again_by_the_next_update(site: OtaSite) -> None:
    site.wait_end(site.roll_out(site.publish("2.0.0")))
    shutil.rmtree(site.update_folder)
    site.goes_on()
    last = site.wait_end(site.roll_out(site.publish("3.0.0")))
    assert (last["state"], last["version"]) == ("committed", "3.0.0")
    site.wait_version("3.0.0")
    assert site.current() == "3.0.0"
    assert site.daemon.stop() == 0, site.daemon.log
