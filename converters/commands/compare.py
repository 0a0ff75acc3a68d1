"""``edge-convert compare``: two models side by side on the same rows."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from converters.commands.common import add_card, add_data, add_json, parser, terminal
from converters.commands.evaluate import add_rows
from converters.evaluation.agreement import Agreement, compare_recorded
from converters.evaluation.cost import measure_cost
from converters.evaluation.measures import NOTHING, main_lines
from converters.evaluation.opened import open_model, require_same_rows
from converters.evaluation.results import Evaluation, judge
from converters.evaluation.run import record
from converters.evaluation.text import Page, show_agreement, show_costs
from converters.progress import Progress

SCHEMA = "edge-agent/convert-compare/1"
NAMES = ("A", "B")


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        evaluations, agreement = _compare(options, Path(work), terminal())
    if options.json:
        print(msgspec.json.encode(_answer(options, evaluations, agreement)).decode())
    else:
        _show(options, evaluations, agreement)
    return 0


def _compare(options: argparse.Namespace, work: Path, progress: Progress) -> tuple[list[Evaluation], Agreement]:
    given = {"data": options.data, "card": options.card, "delegate": options.delegate, "progress": progress}
    first = open_model(options.a, work=work / "a", **given)
    second = open_model(options.b, work=work / "b", card_of=first.model, **given)
    both = (first, second)
    rows = first.rows(options.split, options.limit)
    recorded = [record(side.model, side.dataset, rows, progress=progress) for side in both]
    require_same_rows(recorded[0], recorded[1], options.data)
    agreement = compare_recorded(recorded[0], recorded[1])
    models = dict(zip(NAMES, (side.model for side in both), strict=True))
    costs = measure_cost(models, first.dataset.example(rows[0]), progress=progress)
    return [judge(side, cost=costs[name]) for name, side in zip(NAMES, recorded, strict=True)], agreement


def _answer(options: argparse.Namespace, evaluations: Sequence[Evaluation], agreement: Agreement) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "a": {"model": options.a, "evaluation": evaluations[0]},
        "b": {"model": options.b, "evaluation": evaluations[1]},
        "data": options.data,
        "split": options.split,
        "agreement": agreement.outputs,
    }


def _show(options: argparse.Namespace, evaluations: Sequence[Evaluation], agreement: Agreement) -> None:
    page = Page()
    for name, model, evaluation in zip(NAMES, (options.a, options.b), evaluations, strict=True):
        page.line(f"{name}  {model}  ({evaluation.model}, sha256 {evaluation.sha256[:12]})", strong=True)
    first, second = evaluations
    page.line(
        f"{first.rows} rows of {options.data} ({options.split}), of which {first.filled_rows} with filled features"
    )
    for name, head in agreement.outputs.items():
        page.line()
        page.line(f"{name}: {head.task}", strong=True)
        before, after = first.outputs[name].result, second.outputs[name].result
        sides = [dict(main_lines(result)) if result else {} for result in (before, after)]
        measures = list(dict.fromkeys([*sides[0], *sides[1]]))
        if measures:
            rows = [[measure, *(side.get(measure, NOTHING) for side in sides)] for measure in measures]
            page.table(["measure", *NAMES], rows)
        show_agreement(page, name, head, *NAMES)
    show_costs(page, {name: item.cost for name, item in zip(NAMES, evaluations, strict=True) if item.cost})


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("compare", "Two models side by side on the same rows: which is better, and is it chance?")
    what = "a .tflite, or a model as trained, which is brought to float"
    arguments.add_argument("a", metavar="A", help=f"the reference: {what}")
    arguments.add_argument("b", metavar="B", help=f"the other: {what}")
    add_card(arguments)
    add_data(arguments, required=True)
    add_rows(arguments)
    add_json(arguments)
    return arguments
