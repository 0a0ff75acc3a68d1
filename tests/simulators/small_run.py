"""The daemon with the example on an emulated small board, and what it took there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.simulators.agent_toml import MODEL, belt, head, inspect, machine
from tests.simulators.broker import Mosquitto
from tests.simulators.control_group import SmallBoard, peak_mb, resident_mb
from tests.simulators.daemon import Daemon
from tests.simulators.subscriber import Subscriber
from tests.simulators.waiting import wait_for

RATE = 10  # of the example's camera and pipeline
LOOK_S = 0.02


class Memory(threading.Thread):
    """Looks at the processes of the board until told to stop. ``most_mb``: of all of them at one moment; ``others_mb``:
    of those beside the daemon."""

    def __init__(self, board: SmallBoard, daemon: int) -> None:
        super().__init__(daemon=True)
        self.most_mb = self.others_mb = 0.0
        self._board = board
        self._daemon_pid = daemon
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            found = resident_mb(self._board.pids())
            self.most_mb = max(self.most_mb, sum(found.values()))
            self.others_mb = max(self.others_mb, sum(mb for pid, mb in found.items() if pid != self._daemon_pid))

    def stop(self) -> None:
        self._over.set()
        self.join()


class SmallRun:
    """A daemon at work on the board. Its camera is live and its pipeline has a rate to keep."""

    def __init__(self, board: SmallBoard, daemon: Daemon, subscriber: Subscriber, memory: Memory) -> None:
        self.board = board
        self.daemon = daemon
        self.subscriber = subscriber
        self.memory = memory

    def stats(self) -> dict[str, Any]:
        return wait_for(lambda: self.subscriber.last("/stats"), "the first statistics", 180)

    def over(self, seconds: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """The statistics before and after so much of the daemon's own time."""
        begin = self.stats()

        def later() -> dict[str, Any] | None:
            stats = self.stats()
            return stats if stats["uptime_s"] - begin["uptime_s"] >= seconds else None

        return begin, wait_for(later, f"{seconds} s of the daemon's time", 60 + 4 * seconds)

    @property
    def daemon_peak_mb(self) -> float:
        return peak_mb(self.daemon.process.pid)


@contextmanager
def small_run(folder: Path, core: float, memory_mb: int = 512) -> Iterator[SmallRun]:
    """The daemon must end well with the block."""
    board = SmallBoard(memory_mb, core)
    broker = Mosquitto(folder / "broker")
    broker.start()
    subscriber = Subscriber(broker.port)
    path = folder / "agent.toml"
    line = belt(RATE, 'drop = "newest"') + machine() + inspect("inspect", "belt", f'rate = "{RATE}/s"')
    path.write_text(head(broker.port) + line + MODEL)
    daemon = Daemon(path, {}, board.program("-m", "edge_agent", "run", "--config", str(path)))
    memory = Memory(board, daemon.process.pid)
    memory.start()
    try:
        wait_for(lambda: "ready: device" in daemon.log or daemon.process.poll() is not None, "it is ready", 180)
        assert daemon.process.poll() is None, daemon.log
        yield SmallRun(board, daemon, subscriber, memory)
        assert daemon.stop() == 0, daemon.log
    finally:
        memory.stop()
        daemon.kill()
        subscriber.close()
        broker.stop()
        board.close()


def predicted(begin: dict[str, Any], end: dict[str, Any]) -> float:
    """Predictions a second between two statistics, by the daemon's own clock."""
    count = [stats["pipelines"]["inspect"]["predictions"] for stats in (begin, end)]
    return float((count[1] - count[0]) / (end["uptime_s"] - begin["uptime_s"]))
