"""What a model goes through on the device before it is trusted: in shadow, as a canary, alone on trial."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.config.schema import MqttConfig
from fleet.chunk_server import ChunkServer
from tests.simulators.daemon import Daemon
from tests.simulators.ledger import Ledger
from tests.simulators.ota_models import PIPELINE, brightness
from tests.simulators.ota_site import OtaSite, good

FOR_EVER_S = 3600.0
SHARE = 0.3
CANARIES = 60  # predictions: the share of frames is drawn by their numbers, always the same ones


@pytest.fixture
def site(tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    site = OtaSite(tmp_path, daemon)
    yield site
    site.close()


@pytest.fixture
def grey(tmp_path: Path, daemon: Callable[..., Daemon]) -> Iterator[OtaSite]:
    """Its model tells the brightness of a picture."""
    factory = tmp_path / "factory.tflite"
    factory.write_bytes(brightness("1.0.0"))
    site = OtaSite(tmp_path, daemon, rest=f'{PIPELINE}[model.conveyor]\npath = "{factory}"\n')
    yield site
    site.close()


# --- in shadow -------------------------------------------------------------------------------------------------------


def test_a_model_that_agrees_in_shadow_is_tried_and_committed(site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), shadow_s=1.0, agreement=0.9)
    site.wait_state("shadow")
    site.goes_on()
    assert site.versions() == {"1.1.0"}, "what the shadow says was published"
    last = site.wait_end(rollout)
    assert (last["state"], last["reason"]) == ("committed", None)
    assert last["evidence"]["agreement"] == 1.0
    assert last["evidence"]["shadow_samples"] >= 10


def test_a_model_that_says_something_else_than_the_live_one_is_rejected(grey: OtaSite) -> None:
    rollout = grey.roll_out(grey.publish("2.0.0", brightness("2.0.0", more=0.5)), shadow_s=1.0, agreement=0.9)
    last = grey.wait_end(rollout)
    assert (last["state"], last["reason"]) == ("rejected", "agreement")
    assert last["evidence"]["agreement"] == 0.0
    grey.goes_on()
    assert grey.versions() == {"1.0.0"}


# --- on trial --------------------------------------------------------------------------------------------------------


def test_a_canary_has_its_share_of_the_frames_and_each_prediction_names_its_model(site: OtaSite) -> None:
    site.subscriber.wait_predictions(1)
    release = site.publish("2.0.0")
    rollout = site.roll_out(release, trial_s=FOR_EVER_S, share=SHARE)
    site.wait_version("2.0.0")
    start = len(site.subscriber.predictions())
    both = site.subscriber.wait_predictions(start + CANARIES)[start:]
    hashes = {(item["model"]["version"], item["model"]["sha256"]) for item in both}
    assert dict(hashes).keys() == {"1.1.0", "2.0.0"}
    assert len(hashes) == 2
    assert ("2.0.0", release.sha256) in hashes
    counts = Counter(item["model"]["version"] for item in both)
    assert 0.1 < counts["2.0.0"] / counts.total() < 0.5
    site.sign_rollouts(replace(rollout, state="stopped"))
    last = site.wait_end(rollout)
    assert (last["state"], last["reason"]) == ("rolled_back", "withdrawn")


def test_a_model_that_fails_on_what_it_sees_here_is_left_by_itself(grey: OtaSite) -> None:
    grey.subscriber.wait_predictions(1)
    release = grey.publish("2.0.0", brightness("2.0.0", fails_in_the_dark=True))
    last = grey.wait_end(grey.roll_out(release, trial_s=FOR_EVER_S))
    assert (last["state"], last["reason"]) == ("rolled_back", "output")
    assert last["evidence"]["golden_worst_lsb"] == 0, "it was to pass its examination"
    start = len(grey.subscriber.predictions())
    grey.goes_on()
    assert grey.versions(start) == {"1.0.0"}
    assert grey.daemon.stop() == 0, grey.daemon.log
    stats = grey.stats()
    assert stats["frames"] == stats["predictions"] + sum(stats["discards"].values())
    assert set(stats["discards"]) <= {"decode_error", "shutdown"}
    assert stats["discards"]["decode_error"] <= 3, "of the thirty a second"
    assert not grey.subscriber.payloads("/stats")[-1]["crashes"]


def test_an_orderly_stop_keeps_the_trial_and_counts_against_nothing(site: OtaSite) -> None:
    rollout = site.roll_out(site.publish("2.0.0"), trial_s=2.5)
    for _ in range(2):
        site.wait_version("2.0.0")
        assert site.daemon.stop() == 0, site.daemon.log
        assert site.status()["state"] == "trial"
        site.start()
    last = site.wait_end(rollout)
    assert last["state"] == "committed"
    assert last["evidence"]["ran_s"] >= 2.5


# --- a good one costs nothing ----------------------------------------------------------------------------------------


def test_from_the_repository_over_the_broker_to_the_predictions_no_frame_is_lost(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    site = OtaSite(tmp_path, daemon, repository="mqtt:")
    said: list[str] = []
    server = ChunkServer(
        MqttConfig(port=site.broker.port), tmp_path, site.repository.folder, "edge-fleet-serve", said.append
    )
    try:
        with server:
            site.subscriber.wait_predictions(10)
            rollout = site.roll_out(site.publish("2.0.0"), shadow_s=0.5)
            assert site.wait_end(rollout)["state"] == "committed"
            site.wait_version("2.0.0")
        assert server.served.bytes > len(good("2.0.0"))
        assert site.daemon.stop() == 0, site.daemon.log
        stats = site.stats()
        assert stats["frames"] == stats["predictions"] + sum(stats["discards"].values())
        assert set(stats["discards"]) <= {"shutdown"}
        [outbox] = tmp_path.glob("state/**/outbox*.sqlite")
        assert not Ledger(outbox).check().predictions(site.status()["boot_id"]).discarded
        predictions = site.subscriber.predictions()
        assert [item["seq"] for item in predictions] == list(range(len(predictions)))
    finally:
        site.close()
