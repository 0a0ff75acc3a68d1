"""``edge-agent ledger``: what became of the predictions and events of each run, and what still waits on the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

from edge_agent.commands.common import add_config, add_json, look_at_service, parser
from edge_agent.io.outbox_ledger import LedgerFile, read_ledger
from edge_agent.loading import load_configuration, outbox_path
from edge_agent.outgoing import Count, RunRow

SCHEMA = "edge-agent/ledger/1"
HEADINGS = ("", "produced", "acknowledged", "stored", "discarded", "")


def main(argv: Sequence[str]) -> int:
    """0: every row adds up; 1: one does not."""
    arguments = parser("ledger", "Show what became of the predictions and events of each run. Reads only.")
    add_config(arguments)
    add_json(arguments)
    options = arguments.parse_args(argv)
    look_at_service(options.config)
    ledger = read_ledger(outbox_path(load_configuration(options.config)))
    print(json.dumps(as_json(ledger)) if options.json else as_text(ledger))
    return 0 if all(adds_up(run) for run in ledger.runs) else 1


def missing(count: Count) -> int:
    """Records that were produced and of which nothing is known; negative: more became of them than were produced."""
    return count.produced - count.acknowledged - count.stored - count.lost()


def adds_up(run: RunRow) -> bool:
    return not any(missing(count) for count in run.counts.values())


def as_json(ledger: LedgerFile) -> dict[str, object]:
    """Times are RFC 3339 UTC, null where not known: a run whose own file was put aside."""
    return {
        "schema": SCHEMA,
        "path": str(ledger.path),
        "records": ledger.records,
        "bytes": ledger.bytes,
        "file_bytes": ledger.file_bytes,
        "runs": [
            {
                "boot_id": run.boot_id,
                "started": _time(run.started_wall_ns),
                "checkpoint": _time(run.checkpoint_wall_ns),
                "clock_synced": run.clock_synced,
                "clean": run.clean,
                "streams": {
                    name: {
                        "produced": count.produced,
                        "acknowledged": count.acknowledged,
                        "stored": count.stored,
                        "discarded": count.discarded,
                    }
                    for name, count in run.counts.items()
                },
                "adds_up": adds_up(run),
            }
            for run in ledger.runs
        ],
        "refused": [
            {"topic": message.topic, "reason": message.reason, "time": _time(message.wall_ns), "size": message.size}
            for message in ledger.refused
        ],
    }


def as_text(ledger: LedgerFile) -> str:
    """For a person: the newest run first."""
    lines = [
        f"{ledger.path}: {ledger.file_bytes / 2**20:.1f} MiB",
        f"{ledger.records} records wait for the broker, {ledger.bytes / 2**20:.1f} MiB",
    ]
    for run in ledger.runs:
        end = "stopped cleanly" if run.clean else "running, or ended without a clean stop"
        started, checkpoint = (_time(ns) or "not known" for ns in (run.started_wall_ns, run.checkpoint_wall_ns))
        clock = "" if run.clock_synced or not run.started_wall_ns else " (clock not synchronised)"
        lines += ["", f"run {run.boot_id[:8]}  started {started}{clock}, as of {checkpoint}, {end}"]
        rows = [HEADINGS, *(_row(name, count) for name, count in run.counts.items())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for row in rows if run.counts else ():
            cells = [row[0].ljust(widths[0]), *(row[n].rjust(widths[n]) for n in (1, 2, 3)), row[4].ljust(widths[4])]
            lines.append("  ".join(["", *cells, row[5]]).rstrip())
        if not run.counts:
            lines.append("  nothing was produced")
    if ledger.refused:
        lines += ["", "refused by the broker for good, the newest first:"]
        for message in ledger.refused:
            when = _time(message.wall_ns) or "not known"
            lines.append(f"  {when}  {message.topic}  {message.size} bytes: {message.reason}")
    return "\n".join(lines)


def _row(name: str, count: Count) -> tuple[str, ...]:
    reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(count.discarded.items())) or "0"
    off = missing(count)
    verdict = "adds up" if not off else f"does not add up: {abs(off)} {'missing' if off > 0 else 'too many'}"
    return (name, str(count.produced), str(count.acknowledged), str(count.stored), reasons, verdict)


def _time(wall_ns: int) -> str | None:
    if not wall_ns:
        return None
    try:
        time = datetime.fromtimestamp(wall_ns / 1e9, timezone.utc)
    except (OverflowError, ValueError, OSError):  # a clock that was far off
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
