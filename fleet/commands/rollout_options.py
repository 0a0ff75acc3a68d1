"""What the subcommands that sign rollouts share: the channel, which one is meant, and the bell."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from edge_agent.rollouts import Rollout
from fleet.commands.common import parser
from fleet.commands.mqtt_options import add_mqtt
from fleet.commands.repository_options import add_repository, answer, opened
from fleet.commands.waking import wake, when_seen
from fleet.rollout_book import RolloutBook


def add_channel(arguments: argparse.ArgumentParser) -> None:
    add_repository(arguments)
    arguments.add_argument("--channel", default="main", metavar="NAME", help="of [update] channel (default main)")
    add_mqtt(arguments)


def which_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Of a command on a rollout that is there."""
    arguments = parser(command, description)
    arguments.set_defaults(command=command)
    add_channel(arguments)
    arguments.add_argument("which", metavar="ROLLOUT", help="its id, or the model's name for the newest of it")
    return arguments


def run_change(
    arguments: argparse.ArgumentParser, argv: Sequence[str], says: str, change: Callable[..., Rollout]
) -> int:
    """``change``: gets the book and the options; ``says``: of the rollout, with its fields in braces."""
    options = arguments.parse_args(argv)
    with opened(options) as repository:
        rollout = change(RolloutBook(repository, options.channel), options)
        settings = repository.settings
    woken = wake(options, settings, rollout)
    answer(
        options,
        f"{rollout.id} {says.format(rollout=rollout)}; {when_seen(woken)}",
        rollout=rollout.id,
        state=rollout.state,
        percent=rollout.percent,
        woken=woken,
    )
    return 0
