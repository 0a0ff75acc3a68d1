"""What the outbox costs: stored without a broker, started with a full store, delivered later, written a day.

    python -m benchmarks.delivery [--records 1000000] [--quick] [--repeats 3] [--folder FOLDER] [--device] [--json]

Against a queue in paho (memory), a commit for each message (disk) and bare paho (the wire), in alternating rounds, each
in a process of its own. ``--folder`` is on the disk that is measured: on a file system in memory nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import daemon
from benchmarks.disk_writes import DAY_S, FULL, MODES
from benchmarks.pipeline import DATA, ROOT
from benchmarks.report import arguments, judge, machine, show
from edge_agent import limits
from edge_agent.config.schema import OutboxConfig
from edge_agent.io.outbox_schema import companions
from tests.simulators.broker import Mosquitto, free_port
from tests.simulators.daemon import Daemon

COMMITTED_EACH = 2_000  # messages with a commit each; the rate does not depend on their number
CHECKED_MOST = 60_000  # just under outbox_schema.CHECK_BYTES_MOST
QUEUED_MOST = 200_000  # more than paho's packet ids allow
DRAINED_MOST = 100_000  # in each of the alternating rounds
WINDOWS = (20, 100)  # mosquitto's own receive maximum, and as many as the daemon ever takes
RATES = (1, 5, 30)  # predictions a second
DEFAULT_RATE = OutboxConfig().drain

Rounds = list[dict[str, Any]]
Rows = dict[str, Sequence[Any]]


def part(kind: str, **keywords: Any) -> dict[str, Any]:
    """One run of benchmarks/delivery_parts.py."""
    command = [sys.executable, "-m", "benchmarks.delivery_parts", kind, json.dumps(keywords)]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if out.returncode != 0:
        raise RuntimeError(f"{kind}: {out.stderr.strip()}")
    measured: dict[str, Any] = json.loads(out.stdout.splitlines()[-1])
    return measured


class Report:
    """Tables and goals as they come; all of it as one JSON object at the end."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._tables: dict[str, Any] = {}
        self._goals: list[str] = []

    def table(self, title: str, columns: Sequence[str], rows: Rows) -> None:
        self._tables[title] = {name: dict(zip(columns, row, strict=True)) for name, row in rows.items()}
        if not self._as_json:
            show({"part": title}, columns, rows, False)
            print(flush=True)

    def goal(self, name: str, value: float, wanted: str, good: bool) -> None:
        self._goals.append(judge(name, value, wanted, good))

    def end(self) -> None:
        if self._as_json:
            print(json.dumps({**machine(), "parts": self._tables, "goals": self._goals}))
        else:
            print("\n".join(self._goals))


def middle(rounds: Rounds, name: str) -> float:
    return float(median(measured[name] for measured in rounds))


def spread(rounds: Rounds) -> str:
    rates = [measured["per_s"] for measured in rounds]
    return f"{min(rates):.0f}..{max(rates):.0f}"


def remove(path: Path) -> None:
    for file in companions(path):
        file.unlink(missing_ok=True)


def stored(folder: Path, options: argparse.Namespace, report: Report) -> Path:
    """Returns the file with all records."""
    full, other = folder / "full.sqlite", folder / "other.sqlite"
    rounds: dict[str, Rounds] = {name: [] for name in ("batch", "every", "paho queue", "commit each")}
    for _ in range(options.repeats):
        remove(full)
        rounds["batch"].append(part("store", path=str(full), count=options.records, every=False))
        remove(other)
        rounds["every"].append(part("store", path=str(other), count=options.records // 10, every=True))
        rounds["paho queue"].append(part("paho_queue", count=min(options.records, QUEUED_MOST)))
        remove(other)
        rounds["commit each"].append(part("commit_each", path=str(other), count=COMMITTED_EACH))
    remove(other)
    ours, queue = rounds["batch"], rounds["paho queue"]
    each = middle(rounds["commit each"], "per_s")
    rows: Rows = {
        name: (
            middle(measured, "per_s"),
            spread(measured),
            middle(measured, "per_s") / each,
            middle(measured, "peak_mb"),
            measured[0].get("kept", measured[0].get("stored", COMMITTED_EACH)),
            measured[0].get("file_mb"),
            measured[0].get("written_per_record"),
        )
        for name, measured in rounds.items()
    }
    columns = ("records/s", "spread", "over commit each", "MB over idle", "kept", "file MB", "written each")
    report.table(f"{options.records} predictions without a broker", columns, rows)
    rate, memory = middle(ours, "per_s"), max(measured["peak_mb"] for measured in ours)
    report.goal("stored in batch mode, records/s", rate, ">= 20000", rate >= 20_000)
    report.goal("memory over idle while storing, MB", memory, "< 60", memory < 60)
    queued = middle(queue, "peak_mb") / queue[0]["kept"] * options.records
    report.goal("the same in a queue of paho's, over that", queued / memory, "> 1", queued > memory)
    right = all(measured["adds_up"] and measured["stored"] == options.records for measured in ours)
    report.goal("the ledger adds up", right, "1", right)
    return full


def started(folder: Path, full: Path, options: argparse.Namespace, report: Report) -> None:
    """With an empty store, with the largest whose every page is checked, and with a full one, read from the disk
    anew."""
    paths = {"empty": folder / "empty.sqlite", "all checked": folder / "checked.sqlite", "full": full}
    part("store", path=str(paths["all checked"]), count=CHECKED_MOST, every=False)
    opened: dict[str, list[float]] = {name: [] for name in paths}
    ready: dict[str, list[float]] = {name: [] for name in paths}
    part("open_store", path=str(paths["empty"]))
    daemon_ready_s(folder, paths["empty"])  # the first start of all tries the model in a child process
    for _ in range(options.repeats):
        for name, path in paths.items():
            forget(path)
            opened[name].append(part("open_store", path=str(path))["seconds"])
            forget(path)
            ready[name].append(daemon_ready_s(folder, path))
    rows: Rows = {
        name: (
            path.stat().st_size / 1e6,
            median(opened[name]),
            median(ready[name]),
            median(ready[name]) / median(ready["empty"]),
        )
        for name, path in paths.items()
    }
    report.table("start", ("file MB", "store open s", "daemon ready s", "over empty"), rows)


def forget(path: Path) -> None:
    """Out of the page cache, as after a boot."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def daemon_ready_s(folder: Path, path: Path) -> float:
    """From the start of the process to its word that it is ready. Nobody answers where its broker should be."""
    video, model = DATA / "videos/car-detection.mp4", DATA / "models/mobilenet_v1_0.25_128_quant.tflite"
    text = daemon.CONFIGURATION.format(port=free_port(), video=video, model=model, pace="media")
    configuration = folder / "agent.toml"
    configuration.write_text(f'{text}[outbox]\npath = "{path}"\ndisk = "8GiB"\n')
    began = time.perf_counter()
    process = Daemon(configuration, {})
    try:
        process.wait_ready()
        return time.perf_counter() - began
    finally:
        process.stop()


def delivered(folder: Path, full: Path, options: argparse.Namespace, report: Report) -> None:
    count = min(options.records, DRAINED_MOST)
    small, copy = folder / "small.sqlite", folder / "copy.sqlite"
    part("store", path=str(small), count=count, every=False)
    rows: Rows = {}
    for window in WINDOWS:
        broker = Mosquitto(folder / f"broker{window}", f"max_inflight_messages {window}\n")
        broker.start()
        try:
            ours, bare = rounds_of(small, copy, broker.port, window, options.repeats)
            rows |= delivery_rows(f"window {window}", ours, bare, report)
            if window == WINDOWS[0]:
                slow = part("drain", path=copied(small, copy), port=broker.port, rate=DEFAULT_RATE)
                whole = part("drain", path=str(full), port=broker.port, rate=0)
        finally:
            broker.stop()
    rows[f"edge-agent, all {options.records}, window {WINDOWS[0]}"] = row([whole], None)
    rows[f"edge-agent, drain = {DEFAULT_RATE:g}, window {WINDOWS[0]}"] = row([slow], None)
    columns = ("records/s", "spread", "over bare paho", "MB over idle", "written each")
    report.table(f"{count} predictions delivered at QoS 1", columns, rows)
    memory = whole["peak_mb"]
    report.goal("memory over idle while delivering all, MB", memory, "< 60", memory < 60)
    report.goal("the default drain rate is kept, records/s", slow["per_s"], f"<= {DEFAULT_RATE:g}", slow_enough(slow))
    right = all(one["adds_up"] and one["acknowledged"] == n for one, n in ((whole, options.records), (slow, count)))
    report.goal("the ledger adds up", right, "1", right)


def slow_enough(measured: dict[str, Any]) -> bool:
    return bool(measured["per_s"] <= DEFAULT_RATE * 1.01)


def rounds_of(small: Path, copy: Path, port: int, window: int, repeats: int) -> tuple[Rounds, Rounds]:
    ours, bare = [], []
    for _ in range(repeats):
        ours.append(part("drain", path=copied(small, copy), port=port, rate=0))
        bare.append(part("paho_bare", port=port, count=ours[-1]["acknowledged"], window=window))
        if ours[-1]["window"] != min(window, limits.INFLIGHT_MOST):
            raise RuntimeError(f"the daemon's window was {ours[-1]['window']} where mosquitto takes {window}")
    return ours, bare


def copied(path: Path, copy: Path) -> str:
    remove(copy)
    shutil.copy(path, copy)
    return str(copy)


def delivery_rows(name: str, ours: Rounds, bare: Rounds, report: Report) -> Rows:
    rate, limit = middle(ours, "per_s"), middle(bare, "per_s")
    good = rate >= 5000 or rate >= 0.8 * limit
    report.goal(f"delivered, {name}, records/s", rate, ">= 5000 or 0.8 of bare paho", good)
    report.goal(f"delivered, {name}, over bare paho", rate / limit, ">= 0.8 or 5000/s", good)
    return {f"edge-agent, {name}": row(ours, limit), f"bare paho, {name}": row(bare, limit)}


def row(rounds: Rounds, limit: float | None) -> Sequence[Any]:
    rate = middle(rounds, "per_s")
    memory = max(measured["peak_mb"] for measured in rounds)
    return rate, spread(rounds), limit and rate / limit, memory, rounds[0].get("written_per_record")


def written(folder: Path, options: argparse.Namespace, report: Report) -> None:
    columns = ("MB a day", "commits a day", "bytes each", "of body alone")
    body = part("body_bytes")["bytes"]
    rows: Rows = {}
    for mode, title in {**MODES, FULL: "offline, disk full"}.items():
        for rate in RATES:
            path = folder / "writes.sqlite"
            remove(path)
            one = part("disk_writes", path=str(path), rate=rate, mode=mode, device=options.device)
            of_body = one["mb_a_day"] * 1e6 / (rate * DAY_S * body)
            rows[f"{title}, {rate}/s"] = (one["mb_a_day"], one["commits_a_day"], one["bytes_each"], of_body)
    by = "the whole device" if options.device else "this process"
    report.table(f"bytes written a day by {by}, body {body} bytes", columns, rows)


def main() -> None:
    parser = arguments("Storing, starting, delivering and wearing the disk, against what people do instead.", repeats=3)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="100,000 records, one round")
    parser.add_argument("--folder", type=Path, help="on the disk to measure (default: the system's temporary folder)")
    parser.add_argument(
        "--device", action="store_true", help="bytes a day: count the whole block device; nobody else may write to it"
    )
    options = parser.parse_args()
    if options.quick:
        options.records, options.repeats = min(options.records, 100_000), 1
    report = Report(options.json)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        full = stored(folder, options, report)
        started(folder, full, options, report)
        delivered(folder, full, options, report)
        written(folder, options, report)
    report.end()


if __name__ == "__main__":
    main()
