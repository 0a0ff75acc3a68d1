"""``edge-fleet rollout``: sign who gets a published model, and how carefully."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from edge_agent.errors import ConfigError
from edge_agent.rollouts import Release, Rollout
from fleet.commands.common import duration, parser
from fleet.commands.repository_options import answer, opened
from fleet.commands.rollout_options import add_channel, count, percent, share
from fleet.commands.waking import wake, when_seen
from fleet.releases import find_release
from fleet.rollout_book import RolloutBook, audience, utc, window

CANARIES_LEAST = 100  # devices; below, a share of 10 % is sometimes nobody


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    if options.agreement is not None and not options.shadow:
        raise ConfigError("--agreement is measured in shadow: give --shadow TIME, too")
    to = audience(options.to)
    with opened(options) as repository:
        release = find_release(repository, options.release)
        rollout = RolloutBook(repository, options.channel).begin(
            release,
            to,
            again=options.again,
            percent=options.percent,
            not_before=options.not_before,
            window=options.window,
            shadow_s=options.shadow / 1e9,
            trial_s=options.trial / 1e9,
            share=options.share,
            agreement=options.agreement,
            max_failures=options.max_failures,
        )
        settings = repository.settings
    woken = wake(options, settings, rollout)
    answer(
        options,
        _text(options, release, rollout, woken),
        rollout=rollout.id,
        number=rollout.number,
        model=rollout.model,
        version=release.version,
        sha256=rollout.sha256,
        percent=rollout.percent,
        woken=woken,
    )
    return 0


def _text(options: argparse.Namespace, release: Release, rollout: Rollout, woken: bool) -> str:
    text = (
        f"{rollout.id}: {release.name} {release.version} to {', '.join(options.to)}, {rollout.percent:g} %; "
        f"{when_seen(woken)}\n"
        f"Next: edge-fleet watch {options.repository} {rollout.id}"
    )
    if rollout.percent < 100:
        text += (
            f"\nEach device finds by a hash whether it is in. Of fewer than {CANARIES_LEAST} devices that may be none: "
            "name some with --to device:NAME, they always are"
        )
    return text


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


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "rollout",
        "Sign a rollout: which devices get a published model, and what it must stand there. Devices see it at their "
        "next poll, or at once where a broker is known (--mqtt-host, or [mqtt] in fleet.toml).",
    )
    arguments.set_defaults(command="rollout")
    add_channel(arguments)
    arguments.add_argument("release", metavar="NAME@VERSION", help="of edge-fleet publish; NAME: the newest of it")
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
        "--max-failures", type=count, default=1, metavar="N", help="more, and edge-fleet watch stops it (default 1)"
    )
    arguments.add_argument(
        "--again", action="store_true", help="sign the model anew, for devices that have left it behind"
    )
    return arguments
