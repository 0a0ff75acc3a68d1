"""``edge-convert convert``: the whole way, with the ladder that was climbed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from converters.commands.common import (
    add_card,
    add_data,
    add_identity,
    add_json,
    add_model,
    add_output,
    add_signature,
    parser,
    positive,
    share,
    terminal,
)
from converters.conversion import Conversion, Goal, convert
from converters.evaluation.text import Page, agreement_lines, show_as_trained, show_costs
from converters.ladder import ladder_text
from converters.steps import Io


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    goal = Goal(
        max_drop=options.max_drop,
        target=options.target,
        io=options.io,
        name=options.name,
        version=options.model_version,
        limit=options.limit,
        epochs=0 if options.no_training else options.epochs,
        seed=options.seed,
        signature=options.signature,
    )
    result = convert(
        options.model,
        card=options.card,
        data=options.data,
        output=options.output,
        goal=goal,
        report=options.report,
        preprocess=options.preprocess,
        progress=terminal(),
    )
    if options.json:
        print(json.dumps(result.to_json()))
    else:
        _show(result, options)
    return 0 if result.ladder.met else 1


def _show(result: Conversion, options: argparse.Namespace) -> None:
    page = Page()
    print(ladder_text(result.ladder))
    for name, head in result.deployed.evaluation.outputs.items():
        if head.agreement is not None:
            page.line()
            page.line(f"{name}: deployed against float", strong=True)
            for line in agreement_lines(head.agreement, "float", "deployed"):
                page.line(f"  {line}")
    if result.as_trained is not None:
        show_as_trained(page, result.as_trained)
    sides = {"float": result.reference.evaluation.cost, "deployed": result.deployed.evaluation.cost}
    show_costs(page, {name: cost for name, cost in sides.items() if cost})
    page.line()
    for note in result.notes:
        page.line(note if note.startswith("warning") else f"note: {note}")
    if result.written is None:
        page.line(
            f"No rung keeps the loss within {options.max_drop:g}: nothing was written. Allow more with --max-drop, "
            "give more calibration rows, or look at the layers with --report FILE."
        )
    else:
        page.line(f"wrote {result.written.path}, {result.written.bytes} bytes, sha256 {result.written.sha256[:12]}")
    if options.report is not None:
        page.line(f"wrote {options.report}")


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("convert", "From a trained model to one .tflite for the device, within a bound on the loss.")
    add_model(arguments, trained=True)
    add_signature(arguments)
    add_card(arguments)
    add_data(arguments, required=True)
    add_output(arguments, "the .tflite to write")
    arguments.add_argument(
        "--max-drop", type=share, default=0.01, metavar="SHARE", help="of the main score, against float (default 0.01)"
    )
    arguments.add_argument("--target", metavar="PROFILE", help="the board: an Edge TPU takes integers alone")
    arguments.add_argument("--io", choices=get_args(Io), default="int8", help="what an int8 model takes and gives")
    arguments.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report as well")
    arguments.add_argument(
        "--preprocess", metavar="FILE.py:FUNCTION", help="what training did to its inputs, to compare with the device's"
    )
    arguments.add_argument("--epochs", type=positive, default=2, metavar="N", help="of training on the last rung")
    arguments.add_argument("--no-training", action="store_true", help="leave the last rung out")
    arguments.add_argument("--seed", type=int, default=0, help="of that training (default 0)")
    add_identity(arguments)
    add_json(arguments)
    return arguments
