"""``edge-fleet resume``: go on with a paused rollout."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.commands.rollout_options import run_change, which_parser


def main(argv: Sequence[str]) -> int:
    arguments = which_parser("resume", "Go on with a paused rollout. One that was stopped stays so.")
    return run_change(arguments, argv, "goes on", lambda book, options: book.resume(options.which))
