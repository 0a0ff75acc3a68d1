"""A broker that goes away and comes back costs time, never a prediction; and every one that is given up is counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.agent_toml import DEVICE, MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.ledger import check_order, once_each
from tests.simulators.service_manager import ServiceManager
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

FPS = 20
REST = machine("media") + inspect() + MODEL
LINE = belt(FPS) + REST
FAST_FPS = 300
ON_THE_WAY_OUT = ("outbox_full", "expired", "refused")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    """Hears the status line, which tells how much waits while no broker could."""
    with ServiceManager(tmp_path) as service_manager:
        yield service_manager


def counts_at_rest(subscriber: Subscriber) -> dict[str, Any]:
    """Stop the frames and return the pipeline's counts once they have stood still, but for those of paused frames."""
    seen = len(subscriber.raw("/stats"))
    subscriber.publish(f"edge-agent/{DEVICE}/set/inspect/paused", "true")

    def at_rest() -> dict[str, Any] | None:
        counts = [stats["pipelines"]["inspect"] for stats in subscriber.payloads("/stats")[seen:]][-2:]
        still = [[item[key] for key in ("predictions", "published", "acknowledged")] for item in counts]
        return counts[-1] if len(still) == 2 and still[0] == still[1] else None

    return wait_for(at_rest, "statistics of a pipeline at rest")


def check_ledger(counts: dict[str, Any]) -> None:
    """docs/mqtt.md, "Counts that add up", for a pipeline at rest that publishes every prediction."""
    discards = counts["discards"]
    given_up = sum(discards.get(reason, 0) for reason in ON_THE_WAY_OUT)
    assert counts["frames"] == counts["predictions"] + sum(discards.values()) - given_up
    assert counts["predictions"] == counts["published"]
    assert counts["published"] == counts["acknowledged"] + given_up


def gave_up(waiting: list[int]) -> bool:
    """Whether ever less waited than before: while the broker is away only what no longer fits leaves."""
    return any(later < earlier for earlier, later in itertools.pairwise(waiting))


def check_all_arrived(predictions: list[dict[str, Any]], produced: int) -> list[dict[str, Any]]:
    """Each once, in the backlog and live in order; returns them by seq."""
    check_order(predictions)
    by_seq = sorted(once_each(predictions), key=lambda item: item["seq"])
    assert [item["seq"] for item in by_seq] == list(range(produced))
    assert [item["frame_seq"] for item in by_seq] == list(range(produced))
    return by_seq


@pytest.mark.parametrize(
    ("protocol", "seconds"),
    [("5", 5), pytest.param("5", 30, marks=pytest.mark.soak), pytest.param("3.1.1", 30, marks=pytest.mark.soak)],
)
def test_no_prediction_is_lost_and_what_waited_comes_in_order_when_the_broker_was_away(
    protocol: str,
    seconds: int,
    broker: Mosquitto,
    subscriber: Subscriber,
    daemon: Callable[..., Daemon],
    manager: ServiceManager,
) -> None:
    daemon(head(broker.port, f'protocol = "{protocol}"') + LINE, **manager.environment())
    before = len(subscriber.wait_predictions(FPS))
    broker.stop()
    manager.wait_waiting(seconds * FPS)
    broker.start()
    subscriber.wait_predictions(before + (seconds + 2) * FPS)
    counts = counts_at_rest(subscriber)
    predictions = check_all_arrived(subscriber.predictions(), counts["published"])
    buffered = [item["seq"] for item in predictions[before:] if item["buffered"]]
    assert len(buffered) >= seconds * FPS - 1  # one of those that wait may be no prediction
    assert buffered == list(range(buffered[0], buffered[-1] + 1))
    assert not predictions[-1]["buffered"]
    check_ledger(counts)


def test_a_broker_that_falls_silent_is_noticed_and_gets_everything_once_it_is_well(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon]
) -> None:
    process = daemon(head(broker.port, 'keepalive = "1s"') + LINE)
    before = len(subscriber.wait_predictions(FPS))
    broker.freeze()
    wait_for(lambda: "does not answer any more" in process.log, "the daemon notices")
    broker.thaw()
    subscriber.wait_predictions(before + 4 * FPS)
    counts = counts_at_rest(subscriber)
    check_all_arrived(subscriber.predictions(), counts["published"])
    check_ledger(counts)


def test_predictions_that_the_broker_will_never_take_are_counted_as_refused(
    tmp_path: Path, daemon: Callable[..., Daemon]
) -> None:
    rules = tmp_path / "rules"
    rules.write_text(f"topic readwrite edge-agent/{DEVICE}/#\ntopic deny edge-agent/{DEVICE}/prediction/#\n")
    broker = Mosquitto(tmp_path / "strict", f"acl_file {rules}\n")
    broker.start()
    subscriber = Subscriber(broker.port)
    process = daemon(head(broker.port) + LINE)
    wait_for(lambda: "refused a message" in process.log, "the warning")
    counts = counts_at_rest(subscriber)
    subscriber.close()
    assert counts["discards"]["refused"] == counts["published"] > 1
    check_ledger(counts)
    assert process.stop() == 0
    broker.stop()
    assert process.log.count("refused a message") == 1


def test_a_daemon_that_starts_without_its_broker_is_ready_and_delivers_everything_later(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], manager: ServiceManager
) -> None:
    broker.stop()
    process = daemon(head(broker.port, 'protocol = "3.1.1"') + LINE, **manager.environment())
    manager.wait_said("READY=1")
    manager.wait_waiting(2 * FPS)
    broker.start()
    subscriber.wait_predictions(4 * FPS)
    counts = counts_at_rest(subscriber)
    predictions = check_all_arrived(subscriber.predictions(), counts["published"])
    assert predictions[0]["buffered"]
    assert subscriber.payloads("/stats")[-1]["boot_id"] == predictions[0]["boot_id"]
    check_ledger(counts)
    assert process.stop() == 0, process.log


@pytest.mark.soak  # the least disk that may be configured takes a while to fill
def test_what_no_longer_fits_is_the_oldest_and_is_counted(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], manager: ServiceManager
) -> None:
    broker.stop()
    bounded = '[outbox]\nmemory = "512KiB"\ndisk = "1MiB"\n'
    daemon(head(broker.port) + belt(FAST_FPS) + REST + bounded, **manager.environment())
    wait_for(lambda: gave_up(manager.waiting()), "an outbox that is full")
    broker.start()
    subscriber.wait_predictions(FAST_FPS)
    counts = counts_at_rest(subscriber)
    arrived = sorted(item["seq"] for item in once_each(subscriber.predictions()))
    lost = counts["discards"]["outbox_full"]
    assert lost > 0
    missing = sorted(set(range(counts["published"])) - set(arrived))
    assert len(missing) == lost
    assert missing[0] == 0  # the oldest went first
    check_ledger(counts)
