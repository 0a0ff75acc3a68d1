"""``edge-fleet watch``: a rollout, live, until it is over; stops it by itself when too many devices fail."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fleet.commands.common import duration, parser
from fleet.commands.following import broker_of, follow
from fleet.commands.rollout_options import add_channel


def main(argv: Sequence[str]) -> int:
    """Returns 0: every device that is meant and known has committed the model; 1: not, or the time is over."""
    options = _arguments().parse_intermixed_args(argv)  # the rollout may stand behind options
    return follow(options, broker_of(options), options.which)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "watch",
        "Follow a rollout until all its devices have come to an end: each one's state, what it runs, why it failed. "
        "Where more fail than --max-failures of the rollout allows, it is stopped. Ctrl-C ends the watching, not the "
        "rollout.",
    )
    add_channel(arguments)
    arguments.add_argument(
        "which", nargs="?", metavar="ROLLOUT", help="its id, or a model's name (default: the newest)"
    )
    arguments.add_argument("--for", dest="run_for", type=duration, metavar="TIME", help='end after, such as "10m"')
    return arguments
