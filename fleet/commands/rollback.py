"""``edge-fleet rollback``: what a rollout's devices had before, signed again, to all that it meant."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from fleet.commands.repository_options import answer, opened
from fleet.commands.rollout_options import run_change, which_parser
from fleet.commands.waking import wake, when_seen
from fleet.rollout_book import RolloutBook


def main(argv: Sequence[str]) -> int:
    arguments = _arguments()
    options = arguments.parse_args(argv)
    if options.stop_only:
        says = "is stopped; devices that had committed it keep it"
        return run_change(arguments, argv, says, lambda book, given: book.stop(given.which))
    with opened(options) as repository:
        stopped, back = RolloutBook(repository, options.channel).roll_back(options.which, options.to_version)
        settings = repository.settings
    woken = wake(options, settings, back)
    answer(
        options,
        f"{stopped.id} is stopped; {back.id} brings back {back.target}, signed under a higher sequence number; "
        f"{when_seen(woken)}\n"
        f"Next: edge-fleet watch {options.repository} {back.id}",
        stopped=stopped.id,
        rollout=back.id,
        target=back.target,
        sha256=back.sha256,
        woken=woken,
    )
    return 0


def _arguments() -> argparse.ArgumentParser:
    arguments = which_parser(
        "rollback",
        "Stop a rollout for good, and roll out to the same devices what they had before: the old bytes, signed again "
        "under a higher sequence number (needs the models key and the rollouts key).",
    )
    group = arguments.add_mutually_exclusive_group()
    group.add_argument("--to-version", metavar="VERSION", help="this one (default: what the rollout before brought)")
    group.add_argument(
        "--stop-only", action="store_true", help="devices on trial go back; those that committed it keep it"
    )
    return arguments
