"""A long run at full rate with a fault every minute: nothing is lost, and the daemon does not grow.

``EDGE_AGENT_SOAK_S`` and ``EDGE_AGENT_SOAK_FAULT_S`` set its length and the time between two faults, in seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.fleet.collector_process import CollectorProcess
from tests.simulators.agent_toml import DEVICE, MODEL, belt, camera, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.daemon import Daemon
from tests.simulators.disk import SmallDisk
from tests.simulators.ledger import Ledger
from tests.simulators.link import Link
from tests.simulators.mjpeg_server import MjpegServer
from tests.simulators.waiting import wait_for

SOAK_S = float(os.environ.get("EDGE_AGENT_SOAK_S", "3600"))
FAULT_S = float(os.environ.get("EDGE_AGENT_SOAK_FAULT_S", "60"))  # from one fault to the next; a third of it lasts
FPS = 100  # of the pictures; the web camera adds its own
WEB_FPS = 10
SETTLED = 1 / 12  # of the run: five minutes of an hour; what grew until then may stay
GROWTH_MOST_MB = 15.0  # after that; what waits through a fault, and the allocator's holes that it leaves
# Writing its whole queue down at each message (autosave_on_changes) is too much for mosquitto at this rate, so here it
# is stopped; that a killed one costs nothing is test_nothing_lost.py's.
KEEPS_ALL = "max_queued_messages 1000000\nmax_inflight_messages 0\nautosave_on_changes false\nautosave_interval 1800\n"
DESCRIPTORS_MORE = 2  # SQLite's log and a connection come and go
GAPS = (sys.executable, "-m", "fleet", "gaps", "--json", "--db")
Fault = Callable[[], Callable[[], object]]
"""Begins; returns what ends it."""


class Sample(NamedTuple):
    """Of the daemon, when it had recovered from one fault and the next had not begun."""

    at_s: float
    memory_mb: float
    threads: int
    descriptors: int


def sample(process: Daemon, since_s: float) -> Sample:
    folder = Path(f"/proc/{process.process.pid}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    return Sample(
        time.monotonic() - since_s,
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["Threads"]),
        len(list((folder / "fd").iterdir())),
    )


class Site:
    """All that can fail, and how."""

    def __init__(self, broker: Mosquitto, link: Link, web: MjpegServer, disk: SmallDisk | None) -> None:
        self.faults: dict[str, Fault] = {
            "broker away": lambda: self._do(broker.stop, broker.start),
            "broker frozen": lambda: self._do(broker.freeze, broker.thaw),
            "link silent": lambda: self._do(link.hold, link.pass_on),
            "link silent to the broker": lambda: self._do(lambda: link.hold("up"), link.pass_on),
            "link silent from the broker": lambda: self._do(lambda: link.hold("down"), link.pass_on),
            "connections reset": lambda: self._do(link.cut, link.cut),
            "connections refused": lambda: self._do(link.refuse, link.accept),
            "broker slow": lambda: self._do(lambda: self._answer_after(link, 0.5), lambda: self._answer_after(link, 0)),
            "camera silent": lambda: self._do(lambda: self._mode(web, "stall"), lambda: self._mode(web, "ok")),
            "camera away": lambda: self._do(web.stop, web.start),
            "camera sends rubbish": lambda: self._do(lambda: self._mode(web, "corrupt"), lambda: self._mode(web, "ok")),
        }
        if disk is not None:
            self.faults["disk full"] = lambda: self._do(disk.fill, disk.make_room)
            self.faults["disk full, broker away"] = lambda: self._do(
                lambda: (disk.fill(), link.refuse()), lambda: (disk.make_room(), link.accept())
            )

    def _do(self, begin: Callable[[], object], end: Callable[[], object]) -> Callable[[], object]:
        begin()
        return end

    def _answer_after(self, link: Link, delay_s: float) -> None:
        link.answer_delay_s = delay_s

    def _mode(self, web: MjpegServer, mode: str) -> None:
        web.mode = mode  # type: ignore[assignment]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk | None]:
    """None where nobody may mount: the faults of the disk are left out."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(SmallDisk(tmp_path / "state", "64m"))
        except pytest.skip.Exception:
            yield None


@pytest.mark.soak
def test_a_long_run_with_a_fault_every_minute_loses_nothing_and_does_not_grow(
    tmp_path: Path, disk: SmallDisk | None, daemon: Callable[..., Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    broker = Mosquitto(tmp_path / "broker", KEEPS_ALL)
    broker.start()
    collector = CollectorProcess(tmp_path / "collected.sqlite", broker.port, "--quiet").connected()
    with Link(broker.port) as link, MjpegServer(fps=WEB_FPS) as web:
        gate = camera("gate", web.url, 'timeout = "2s"') + inspect("gate", "gate")
        lines = belt(FPS, 'drop = "newest"') + machine() + inspect() + gate + MODEL
        process = daemon(head(link.port, 'keepalive = "2s"') + lines)
        process.wait_ready()
        samples, times = soak(process, Site(broker, link, web, disk).faults)
        assert process.stop() == 0, process.log
    assert "Traceback" not in process.log
    ledger = Ledger(tmp_path / "state" / "edge-agent" / DEVICE / "outbox.sqlite").check()
    produced = {row.stream: row.produced for row in ledger.rows}
    try:
        wait_for(lambda: counted(collector, "received") == produced, f"all of {produced} at the collector", 120)
    finally:
        assert collector.stop() == 0, collector.said()
        broker.stop()
    with capsys.disabled():
        print(table(samples, times, ledger, collector))
    gaps = subprocess.run([*GAPS, str(collector.database)], capture_output=True, text=True, check=False)
    assert gaps.returncode == 0, gaps.stdout
    assert not [row for row in ledger.rows if row.discarded or row.stored]
    check_flat(samples)


def soak(process: Daemon, faults: dict[str, Fault]) -> tuple[list[Sample], Counter[str]]:
    """Every fault in turn, in an order drawn anew each time."""
    chance = random.Random(4)
    since_s = time.monotonic()
    samples, times = [], Counter[str]()
    waiting: list[str] = []
    while time.monotonic() - since_s < SOAK_S:
        waiting = waiting or chance.sample(sorted(faults), len(faults))
        name = waiting.pop()
        times[name] += 1
        end = faults[name]()
        pass_time(process, FAULT_S / 3)
        end()
        pass_time(process, FAULT_S * 2 / 3)
        samples.append(sample(process, since_s))
    return samples, times


def pass_time(process: Daemon, duration_s: float) -> None:
    """The daemon has to live through it."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise AssertionError(f"ended with {process.wait_exit(duration_s)}: {process.log}")


def counted(collector: CollectorProcess, what: str) -> dict[str, int]:
    """By stream, as ``edge-fleet gaps`` has it."""
    answer = subprocess.run([*GAPS, str(collector.database)], capture_output=True, text=True, check=False)
    return {item["stream"]: item[what] for item in json.loads(answer.stdout)["streams"]}


def settled(samples: list[Sample]) -> list[Sample]:
    return [item for item in samples if item.at_s >= samples[-1].at_s * SETTLED]


def check_flat(samples: list[Sample]) -> None:
    first, last = settled(samples)[0], samples[-1]
    assert last.memory_mb - first.memory_mb < GROWTH_MOST_MB, samples
    assert growth_mb(samples) < GROWTH_MOST_MB, samples
    assert last.threads <= first.threads, samples
    assert last.descriptors <= first.descriptors + DESCRIPTORS_MORE, samples


def growth_mb(samples: list[Sample]) -> float:
    """Of a straight line through the settled samples, from its beginning to its end."""
    steady = settled(samples)
    times = [item.at_s for item in steady]
    slope = np.polyfit(times, [item.memory_mb for item in steady], 1)[0] if len(steady) > 1 else 0.0
    return float(slope) * (times[-1] - times[0])


def table(samples: list[Sample], times: Counter[str], ledger: Ledger, collector: CollectorProcess) -> str:
    lines = ["", f"{samples[-1].at_s:.0f} s, {sum(times.values())} faults"]
    lines += [f"  {count:4} {name}" for name, count in sorted(times.items())]
    lines.append(f"{'stream':22} {'produced':>9} {'acknowledged':>12} {'stored':>7} {'arrived':>9}  discarded")
    arrived = counted(collector, "received")
    for row in ledger.rows:
        figures = f"{row.produced:9} {row.acknowledged:12} {row.stored:7} {arrived.get(row.stream, 0):9}"
        lines.append(f"{row.stream:22} {figures}  {row.discarded or 'none'}")
    lines.append(f"{'s':>7} {'memory MB':>10} {'threads':>8} {'descriptors':>12}")
    for item in samples[:: max(1, len(samples) // 12)] + samples[-1:]:
        lines.append(f"{item.at_s:7.0f} {item.memory_mb:10.1f} {item.threads:8} {item.descriptors:12}")
    lines.append(f"growth of a line through the settled samples: {growth_mb(samples):.1f} MB")
    return "\n".join(lines)
