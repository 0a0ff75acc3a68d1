"""``edge-convert evaluate``: one model on a data set through the device's own arithmetic, and what it costs."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from converters.commands.common import add_card, add_data, add_json, add_model, parser, terminal
from converters.device_model import DeviceModel
from converters.evaluation.as_trained import AsTrained, as_trained
from converters.evaluation.card_search import CardSearch, search_card
from converters.evaluation.cost import measure_cost
from converters.evaluation.opened import Opened, open_model, require_same_rows
from converters.evaluation.recorded import Recorded
from converters.evaluation.results import Evaluation, judge
from converters.evaluation.run import record
from converters.evaluation.text import (
    Page,
    show_agreement,
    show_as_trained,
    show_costs,
    show_evaluation,
    show_inputs,
    show_search,
)
from converters.progress import Progress

SCHEMA = "edge-agent/convert-evaluate/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        return _run(options, Path(work), terminal())


def _run(options: argparse.Namespace, work: Path, progress: Progress) -> int:
    opened = _opened(options, options.model, work / "model", progress)
    rows = opened.rows(options.split, options.limit)
    recorded = record(opened.model, opened.dataset, rows, progress=progress)
    reference, trained = None, None
    if options.against:
        reference, trained = _against(options, opened, recorded, work, progress)
    elif opened.trained:
        trained = as_trained(
            options.model, opened.model, opened.dataset, rows, work=work, device=recorded, progress=progress
        )
    search = None
    if options.explain or (options.preprocess and not trained):
        search = search_card(opened.model, opened.dataset, rows, progress=progress)
    cost = measure_cost({"model": opened.model}, opened.dataset.example(rows[0]), progress=progress)["model"]
    evaluation = judge(recorded, reference=reference, cost=cost)
    if options.json:
        print(msgspec.json.encode(_answer(options, evaluation, trained, search)).decode())
    else:
        _show(options, evaluation, trained, search)
    return 0


def _against(
    options: argparse.Namespace, opened: Opened, recorded: Recorded, work: Path, progress: Progress
) -> tuple[Recorded, AsTrained | None]:
    """What the reference answers, and the steps from it to this model where it is a model as trained."""
    other = _opened(options, options.against, work / "against", progress, card_of=opened.model)
    rows = other.rows(options.split, options.limit)
    reference = record(other.model, other.dataset, rows, progress=progress)
    require_same_rows(reference, recorded, options.data)
    if not other.trained:
        return reference, None
    steps = as_trained(
        options.against,
        other.model,
        other.dataset,
        rows,
        work=work / "as-trained",
        device=reference,
        quantised=recorded,
        progress=progress,
    )
    return reference, steps


def _opened(
    options: argparse.Namespace, name: str, work: Path, progress: Progress, card_of: DeviceModel | None = None
) -> Opened:
    return open_model(
        name,
        data=options.data,
        card=options.card,
        delegate=options.delegate,
        work=work,
        progress=progress,
        card_of=card_of,
        preprocess=options.preprocess,
    )


def _answer(
    options: argparse.Namespace, evaluation: Evaluation, trained: AsTrained | None, search: CardSearch | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": options.model,
        "against": options.against,
        "data": options.data,
        "split": options.split,
        "evaluation": evaluation,
        "as_trained": trained,
        "card_search": search,
    }


def _show(
    options: argparse.Namespace, evaluation: Evaluation, trained: AsTrained | None, search: CardSearch | None
) -> None:
    page = Page()
    show_evaluation(page, evaluation, f"{options.data} ({options.split})")
    if options.against:
        page.line()
        page.line(f"reference: {options.against}")
    for name, head in evaluation.outputs.items():
        if head.agreement:
            show_agreement(page, name, head.agreement, "reference", "model")
    if trained:
        show_as_trained(page, trained)
    if search:
        page.line()
        page.line(search.sentence, strong=True)
        show_inputs(page, search.inputs)
        show_search(page, search)
    if evaluation.cost:
        show_costs(page, {evaluation.model: evaluation.cost})


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("evaluate", "Run a data set through a model as the device would, and judge the answers.")
    add_model(arguments, trained=True)
    add_card(arguments)
    add_data(arguments, required=True)
    add_rows(arguments)
    arguments.add_argument(
        "--against",
        metavar="MODEL",
        help="another .tflite, or the model as trained: how far the answers agree, and where accuracy is lost",
    )
    arguments.add_argument(
        "--preprocess",
        metavar="FILE.py:FUNCTION",
        help="what training did to its pictures and features: tells a wrong card from a lossy conversion",
    )
    arguments.add_argument(
        "--explain", action="store_true", help="also try each single change of how the card prepares the inputs"
    )
    add_json(arguments)
    return arguments


def add_rows(arguments: argparse.ArgumentParser) -> None:
    """--split and --delegate, which `compare` has too."""
    arguments.add_argument(
        "--split", choices=("test", "train", "calibration"), default="test", help="which rows (default: test)"
    )
    arguments.add_argument(
        "--delegate", choices=("xnnpack", "cpu"), default="xnnpack", help="cpu: the reference kernels, slow"
    )
