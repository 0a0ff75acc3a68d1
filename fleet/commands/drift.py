"""``edge-fleet drift``: what all devices counted, added up, and which of them see something else than they learnt."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from edge_agent.config.units import Duration
from edge_agent.core.drift.bins import binning_id
from edge_agent.core.drift.reference import decode_reference
from edge_agent.core.wire import rfc3339
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model
from edge_agent.monitoring import REFERENCE_MEMBER, Reference
from fleet.collected import Collected
from fleet.commands.common import add_database, add_json, duration, parser
from fleet.drift_text import as_json, text
from fleet.drift_view import Gathering

SCHEMA = "edge-fleet/drift/1"


def main(argv: Sequence[str]) -> int:
    """Returns 0: nothing to look at; 1: a device or the fleet has shifted, or a device is at warning or critical."""
    options = _arguments().parse_args(argv)
    references = dict(map(_reference, options.reference))
    gathering = Gathering()
    with Collected(options.db) as collected:
        until = options.until or collected.newest_drift() or rfc3339(0)
        since = _before(until, options.last)
        for stored in collected.drift(since, until, options.device, options.pipeline):
            gathering.add(stored.device, stored.pipeline, stored.time, stored.payload)
    found = gathering.result(references, options.rate)
    if options.json:
        head = {"schema": SCHEMA, "ok": found.good, "database": str(options.db), "since": since, "until": until}
        print(msgspec.json.encode({**head, **as_json(found)}).decode())
    else:
        print(text(found))
    return 0 if found.good else 1


def _reference(path: Path) -> tuple[str, Reference]:
    """By the id of its binning. Raises ModelError and ConfigError."""
    content = read_model(path).members.get(REFERENCE_MEMBER)
    if content is None:
        raise ConfigError(f"{path}: has no drift reference; edge-convert baseline puts one in")
    reference = decode_reference(content)
    return binning_id(reference.binning), reference


def _before(until: str, last: Duration) -> str:
    moment = datetime.fromisoformat(until.replace("Z", "+00:00")) - timedelta(seconds=last.seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(given: str) -> str:
    """RFC 3339 as devices write it, for argparse."""
    try:
        moment = datetime.fromisoformat(given.replace("Z", "+00:00"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{given!r}: expected a time such as 2026-11-21T12:00:00Z") from None
    if moment.tzinfo is None or moment.utcoffset() != timedelta(0):
        raise argparse.ArgumentTypeError(f"{given!r}: expected UTC, ending in Z")
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rate(given: str) -> float:
    try:
        rate = float(given)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{given!r}: expected a share above 0 and below 1")
    return rate


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "drift",
        "Add up the drift reports that edge-fleet collect stored, and say which devices see something else than they "
        "learnt. Look once a day: the share of false ones among those named is held for each look, not for as many as "
        "one likes. Exit code 0: nothing to look at; 1: something has shifted, or a device is at warning or critical.",
    )
    add_database(arguments, "what edge-fleet collect wrote; it may be running")
    arguments.add_argument("--device", metavar="ID", help="one device (default: all)")
    arguments.add_argument("--pipeline", metavar="NAME", help="one pipeline (default: all)")
    arguments.add_argument(
        "--last", type=duration, default=Duration.parse("24h"), metavar="TIME", help="how much to add up (default: 24h)"
    )
    arguments.add_argument("--until", type=_time, metavar="TIME", help="its end (default: the newest report there is)")
    arguments.add_argument(
        "--reference",
        type=Path,
        action="append",
        default=[],
        metavar="MODEL",
        help="a .tflite with a drift reference, to compare with; may be given for each model",
    )
    arguments.add_argument(
        "--rate", type=_rate, default=0.1, help="false ones among the devices named, at most (default: 0.1)"
    )
    add_json(arguments)
    return arguments
