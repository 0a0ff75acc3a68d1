"""A board whose firmware says that it is too hot: the daemon slows its live cameras, says so, and comes back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

TOOL = """#!/bin/sh
cat {answer}
"""


class Firmware:
    """A ``vcgencmd`` first on the daemon's path, that gives the answer of the hour."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._answer = folder / "answer"
        self.path = f"{folder}:{os.environ['PATH']}"
        tool = folder / "vcgencmd"
        tool.write_text(TOOL.format(answer=self._answer))
        tool.chmod(0o755)

    def says(self, flags: int) -> None:
        new = self._answer.with_suffix(".new")
        new.write_text(f"throttled={flags:#x}\n")
        new.rename(self._answer)


@pytest.fixture
def firmware(tmp_path: Path) -> Firmware:
    if Path("/sys/devices/platform/soc/soc:firmware/get_throttled").exists():
        pytest.skip("this kernel has the flags in a file: the tool is not asked")
    return Firmware(tmp_path / "firmware")


def configuration(port: int) -> str:
    live = belt(20, 'drop = "newest"')
    lossless = live.replace('name = "belt"', 'name = "archive"').replace('"newest"', '"none"')
    pipelines = inspect("live", "belt", 'rate_floor = "5/s"') + inspect("lossless", "archive")
    return head(port) + live + lossless + machine() + pipelines + MODEL


def wait_level(subscriber: Subscriber, level: int, limit_s: float = 60.0) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        stats = subscriber.last("/stats")
        return stats if stats and stats["heat"]["level"] == level else None

    return wait_for(there, f"heat of level {level}", limit_s)


def wait_discards(subscriber: Subscriber, more_than: int) -> dict[str, Any]:
    def there() -> dict[str, Any] | None:
        stats = subscriber.last("/stats")
        return stats if stats and stats["pipelines"]["live"]["discards"].get("throttled", 0) > more_than else None

    return wait_for(there, f"more than {more_than} frames are refused because of the heat")


def test_a_hot_board_slows_its_live_cameras_alone_and_every_frame_is_accounted_for(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], firmware: Firmware
) -> None:
    firmware.says(0x4)
    process = daemon(configuration(broker.port), PATH=firmware.path)
    wait_level(subscriber, 1)
    stats = wait_discards(subscriber, 20)
    (event,) = subscriber.events("throttled")
    assert event["severity"] == "warning"
    assert "firmware: throttled; the rates of live cameras are divided by 2" in event["detail"]
    assert stats["throttled"] == {"now": ["throttled"], "since_start": []}
    assert stats["heat"] == {"level": 1, "slowdown": 2}
    assert process.stop() == 0, process.log
    last = wait_for(lambda: subscriber.last("/stats"), "the last statistics")["pipelines"]
    assert "throttled" not in last["lossless"]["discards"]
    assert last["live"]["frames"] == last["live"]["predictions"] + last["live"]["discards"]["throttled"] + sum(
        count for reason, count in last["live"]["discards"].items() if reason in ("superseded", "shutdown")
    )


@pytest.mark.soak
def test_a_board_that_cools_down_gets_its_rate_back(
    broker: Mosquitto, subscriber: Subscriber, daemon: Callable[..., Daemon], firmware: Firmware
) -> None:
    """Minutes, as the rule wants it: 30 s to the second level, 60 s for each step back."""
    firmware.says(0x8)
    process = daemon(configuration(broker.port), PATH=firmware.path)
    wait_level(subscriber, 2, limit_s=120.0)
    firmware.says(0x80000)
    wait_level(subscriber, 0, limit_s=240.0)
    wait_for(lambda: subscriber.events("throttling_over"), "the end is told")
    assert len(subscriber.events("throttled")) == 2
    refused = wait_level(subscriber, 0)["pipelines"]["live"]["discards"]["throttled"]
    subscriber.wait_predictions(len(subscriber.predictions()) + 100)
    assert wait_level(subscriber, 0)["pipelines"]["live"]["discards"]["throttled"] == refused
    assert process.stop() == 0, process.log
