"""``edge-fleet rollout``: sign who gets a published model, and how carefully."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from edge_agent.rollouts import Release, Rollout
from fleet.commands.common import parser
from fleet.commands.repository_options import answer, opened
from fleet.commands.rollout_options import add_channel
from fleet.commands.rollout_terms import add_terms, terms_of
from fleet.commands.waking import wake, when_seen
from fleet.releases import find_release
from fleet.rollout_book import RolloutBook, audience

CANARIES_LEAST = 100  # devices; below, a share of 10 % is sometimes nobody


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    terms = terms_of(options)
    to = audience(options.to)
    with opened(options) as repository:
        release = find_release(repository, options.release)
        rollout = RolloutBook(repository, options.channel).begin(release, to, again=options.again, **terms)
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


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "rollout",
        "Sign a rollout: which devices get a published model, and what it must stand there. Devices see it at their "
        "next poll, or at once where a broker is known (--mqtt-host, or [mqtt] in fleet.toml).",
    )
    arguments.set_defaults(command="rollout")
    add_channel(arguments)
    arguments.add_argument("release", metavar="NAME@VERSION", help="of edge-fleet publish; NAME: the newest of it")
    add_terms(arguments)
    arguments.add_argument(
        "--again", action="store_true", help="sign the model anew, for devices that have left it behind"
    )
    return arguments
