"""``edge-fleet pause``: no device begins with a rollout until it is resumed."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.commands.rollout_options import run_change, which_parser


def main(argv: Sequence[str]) -> int:
    arguments = which_parser(
        "pause", "Let no further device begin with a rollout, until edge-fleet resume. A trial under way goes on."
    )
    return run_change(arguments, argv, "is paused", lambda book, options: book.pause(options.which))
