"""``edge-fleet gaps``: what is missing in the collected file, and what the devices themselves say of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec

from edge_agent.errors import ConfigError
from fleet.collected import Collected
from fleet.commands.common import add_database, add_json, parser
from fleet.gaps import StreamGaps, as_json
from fleet.gaps_text import table

SCHEMA = "edge-fleet/gaps/1"


def main(argv: Sequence[str]) -> int:
    """Returns 0: nothing is missing without explanation; 1: something is, or there are conflicts."""
    options = _arguments().parse_args(argv)
    with Collected(options.db) as collected:
        streams = list(collected.missing(options.device, options.boot))
        rejected = collected.rejected()
        if not streams and (options.device or options.boot):
            known = ", ".join(collected.devices()[:20]) or "none"
            raise ConfigError(f"{options.db}: nothing of that device and run; devices there: {known}")
    good = all(gaps.good for gaps in streams)
    if options.json:
        print(msgspec.json.encode(_answer(options, streams, rejected, good)).decode())
    else:
        print(table(streams, rejected))
    return 0 if good else 1


def _answer(
    options: argparse.Namespace, streams: Sequence[StreamGaps], rejected: dict[str, int], good: bool
) -> dict[str, object]:
    counted = ("received", "duplicates", "conflicts", "missing", "explained", "unexplained")
    return {
        "schema": SCHEMA,
        "ok": good,
        "database": str(options.db),
        "streams": [as_json(gaps) for gaps in streams],
        "totals": {name: sum(getattr(gaps, name) for gaps in streams) for name in counted},
        "rejected": rejected,
    }


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "gaps",
        "Say by device, run and stream which seq are missing, and how many of them the device itself accounts for "
        "(discarded under a reason, still stored). Exit code 0: nothing is missing without explanation; 1: something "
        "is, or two messages contradict each other.",
    )
    add_database(arguments, "what edge-fleet collect wrote; it may be running")
    arguments.add_argument("--device", metavar="ID", help="one device (default: all)")
    arguments.add_argument("--boot", metavar="ID", help="one run, by its boot_id (default: all)")
    add_json(arguments)
    return arguments
