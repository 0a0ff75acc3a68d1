"""``edge-fleet promote``: a rollout to a larger share of its devices."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.commands.rollout_options import run_change, which_parser
from fleet.commands.rollout_terms import percent


def main(argv: Sequence[str]) -> int:
    arguments = which_parser(
        "promote", "Let a larger share of its devices have a rollout; those that were in stay in. A pause ends."
    )
    arguments.add_argument("--percent", type=percent, default=100.0, metavar="P", help="default 100")
    says = "means {rollout.percent:g} % of its devices now"
    return run_change(arguments, argv, says, lambda book, options: book.promote(options.which, options.percent))
