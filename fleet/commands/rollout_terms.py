"""Who gets a model and what it must stand there: options of ``rollout`` and ``push``, and the numbers in them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from edge_agent.errors import ConfigError
from fleet.commands.common import duration
from fleet.rollout_book import utc, window


def add_terms(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument(
        "--to", action="append", required=True, metavar="WHO", help="device:A,B or group:G or all; may be given again"
    )
    arguments.add_argument("--percent", type=percent, default=100.0, metavar="P", help="of them (default 100)")
    arguments.add_argument(
        "--shadow", type=duration, default="0s", metavar="TIME", help="beside the live model first (default 0s)"
    )
    arguments.add_argument(
        "--agreement", type=share(False), metavar="A", help="in shadow with the live model, 0 to 1: less rejects it"
    )
    arguments.add_argument("--trial", type=duration, default="1h", metavar="TIME", help="live on trial (default 1h)")
    arguments.add_argument(
        "--share", type=share(True), default=1.0, metavar="S", help="of the samples during the trial (default 1)"
    )
    arguments.add_argument("--window", type=_window, metavar="FROM-TO", help='trials begin in it, UTC: "02:00-05:00"')
    arguments.add_argument("--not-before", type=_time, metavar="TIME", help='as "2026-12-01T02:00:00Z"')
    arguments.add_argument(
        "--max-failures", type=count, default=1, metavar="N", help="more, and watching stops it (default 1)"
    )


def terms_of(options: argparse.Namespace) -> dict[str, Any]:
    """Fields of Rollout, all but the audience. Raises ConfigError."""
    if options.agreement is not None and not options.shadow:
        raise ConfigError("--agreement is measured in shadow: give --shadow TIME, too")
    return {
        "percent": options.percent,
        "not_before": options.not_before,
        "window": options.window,
        "shadow_s": options.shadow / 1e9,
        "trial_s": options.trial / 1e9,
        "share": options.share,
        "agreement": options.agreement,
        "max_failures": options.max_failures,
    }


def share(least_open: bool) -> Callable[[str], float]:
    """0 to 1; ``least_open``: without 0; for argparse."""

    def parse(text: str) -> float:
        value = _number(text)
        if not 0 <= value <= 1 or (least_open and value == 0):
            raise argparse.ArgumentTypeError(f"{text}: expected {'above 0' if least_open else '0'}, at most 1")
        return value

    return parse


def count(text: str) -> int:
    """0 or more; for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more")
    return int(text)


def percent(text: str) -> float:
    """Above 0, at most 100; for argparse."""
    value = _number(text.removesuffix("%"))
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(f"{text}: expected above 0, at most 100")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _time(text: str) -> str:
    try:
        return utc(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text}: expected a time with its zone, as "2026-12-01T02:00:00Z"') from None


def _window(text: str) -> str:
    try:
        return window(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
