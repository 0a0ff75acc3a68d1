"""Twenty models, one after the other, under a camera of 30 frames a second: none is lost, each is one model's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.subscriber import Subscriber
from tests.simulators.swaps import run_swaps

SWAPS = 20
FPS = 30


@pytest.mark.parametrize(
    "drop",
    [
        "none",
        # a machine that is busy otherwise supersedes frames without any swap
        pytest.param("newest", marks=pytest.mark.soak),
    ],
)
def test_twenty_swaps_lose_no_frame(drop: str, tmp_path: Path, broker: Mosquitto, subscriber: Subscriber) -> None:
    configuration = head(broker.port) + belt(FPS, f'drop = "{drop}"') + machine("media") + inspect() + MODEL
    swaps = run_swaps(tmp_path, broker, subscriber, configuration, SWAPS)
    counts = swaps.pipeline
    stopped = counts["discards"].pop("shutdown", 0)
    lost = counts["frames"] - counts["predictions"] - stopped
    print(f"{SWAPS} swaps, {counts['frames']} frames: {lost} lost, {swaps.late(1 / FPS)} later than a period")
    assert (lost, counts["discards"], swaps.events, swaps.stats["crashes"]) == (0, {}, [], {})
    assert [item["frame_seq"] for item in swaps.predictions] == list(range(counts["predictions"]))
    assert [item["seq"] for item in swaps.predictions] == list(range(counts["predictions"]))
    versions = [item["model"]["version"] for item in swaps.predictions]
    first = versions.index("1")
    assert len(set(versions[:first])) == 1
    assert [int(version) for version in versions[first:]] == sorted(int(version) for version in versions[first:])
    assert set(versions[first:]) == {str(number) for number in range(1, SWAPS + 1)}
    assert {len(item["readings"]) for item in swaps.predictions} == {3}
