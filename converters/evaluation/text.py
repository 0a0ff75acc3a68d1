"""Evaluations and comparisons for a person: tables on a terminal, the same without frames where the output is piped."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from converters.evaluation.agreement import HeadAgreement
from converters.evaluation.as_trained import AsTrained
from converters.evaluation.card_search import CardSearch
from converters.evaluation.classification import ClassificationResult
from converters.evaluation.cost import Cost
from converters.evaluation.detection import DetectionResult
from converters.evaluation.input_difference import InputDifference
from converters.evaluation.measures import NOTHING, main_lines, number, small
from converters.evaluation.paired import Drop
from converters.evaluation.results import Evaluation, HeadEvaluation

if TYPE_CHECKING:
    from rich.table import Table

PIPED_WIDTH = 100
CLASSES_MOST = 30  # rows of the table by class
CONFUSION_MOST = 12  # classes: a wider table does not fit a terminal


class Page:
    """Where text goes: standard output, with frames and colours only on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        piped = not sys.stdout.isatty()
        self._console = Console(width=PIPED_WIDTH if piped else None, highlight=False)

    def line(self, text: str = "", *, strong: bool = False) -> None:
        """What does not fit goes on below, further in."""
        further = " " * (len(text) - len(text.lstrip()) + 2)
        lines = textwrap.wrap(
            text, self._console.width, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
        )
        self._console.print("\n".join(lines), markup=False, style="bold" if strong else None, soft_wrap=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> None:
        """The first ``left`` columns are words, the others numbers."""
        table = self._table()
        for place, title in enumerate(header):
            table.add_column(title, justify="left" if place < left else "right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        self._console.print(table, markup=False)

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table

        frame = box.SIMPLE_HEAD if self._console.is_terminal else None
        return Table(box=frame, padding=(0, 2, 0, 0), pad_edge=False)


def show_evaluation(page: Page, evaluation: Evaluation, where: str) -> None:
    """``where``: which rows of which data set."""
    page.line(f"{evaluation.model}  sha256 {evaluation.sha256[:12]}  {evaluation.rows} rows of {where}", strong=True)
    _show_filled(page, evaluation)
    for note in evaluation.notes:
        page.line(f"note: {note}")
    for name, head in evaluation.outputs.items():
        _show_head(page, name, head)


def show_costs(page: Page, costs: dict[str, Cost]) -> None:
    page.line()
    first = next(iter(costs.values()))
    machine = first.machine
    page.line(
        f"cost on {machine.cpu}, {machine.architecture}, {machine.threads} thread, {first.delegate}, {machine.runtime}",
        strong=True,
    )
    page.table(
        ["model", "p50 ms", "p95 ms", "runs", "memory MB", "file kB", "model kB", "deflated kB"],
        [
            [
                name,
                f"{cost.p50_ms:.3f}",
                f"{cost.p95_ms:.3f}",
                str(cost.runs),
                NOTHING if cost.memory_mb is None else f"{cost.memory_mb:.1f}",
                *(f"{size / 1000:.1f}" for size in (cost.file_bytes, cost.model_bytes, cost.deflated_bytes)),
            ]
            for name, cost in costs.items()
        ],
    )
    page.line(first.caveat)


def show_agreement(page: Page, name: str, head: HeadAgreement, reference: str, other: str) -> None:
    """``reference`` and ``other``: what to call the models."""
    page.line()
    page.line(f"{name}: {other} against {reference}", strong=True)
    for line in agreement_lines(head, reference, other):
        page.line(f"  {line}")
    if head.worst:
        page.line("  rows that differ most:")
        apart = small if head.task == "regression" else number
        rows = [[row.id, row.reference, row.other, row.truth or NOTHING, apart(row.distance)] for row in head.worst]
        page.table(["row", reference, other, "truth", "apart"], rows, left=4)


def agreement_lines(head: HeadAgreement, reference: str, other: str) -> list[str]:
    """How far the answers are the same, and whether the drop means anything."""
    what = {
        "classification": f"the same class on {head.agreement:.4f} of {head.rows} rows",
        "detection": f"boxes of one found by the other: F1 {head.agreement:.4f} on {head.rows} rows",
        "regression": f"concordance {head.agreement:.4f} on {head.rows} rows",
        "anomaly": f"the same verdict on {head.agreement:.4f} of {head.rows} rows",
    }
    unit = "probability error" if head.task == "classification" else "difference"
    errors = [
        f"{unit}: mean {small(head.mean_error)}, largest {small(head.max_error)}, RMSE {small(head.rmse)}"
        if head.mean_error is not None
        else "",
        f"divergence {small(head.divergence)} nats" if head.divergence is not None else "",
        f"mean overlap {number(head.mean_overlap)}" if head.mean_overlap is not None else "",
    ]
    lines = [what[head.task], "; ".join(filter(None, errors))]
    return [*filter(None, lines), *(drop_lines(head.drop, reference, other) if head.drop else [])]


def drop_lines(drop: Drop, reference: str, other: str) -> list[str]:
    """The drop with its interval, in words."""
    verdict = "no difference beyond chance" if drop.by_chance else ("worse" if drop.drop > 0 else "better")
    lines = [
        f"{drop.score}: {reference} {drop.reference:.4f}, {other} {drop.other:.4f}, drop {drop.drop:+.4f}; "
        f"{drop.confidence:.0%} interval {drop.low:+.4f} to {drop.high:+.4f} on {drop.rows} rows: {verdict}"
    ]
    if drop.p_value is not None:
        lines.append(
            f"right in {reference} alone: {drop.only_reference} rows, in {other} alone: {drop.only_other} "
            f"(exact McNemar p = {drop.p_value:.3g})"
        )
    return lines


def show_as_trained(page: Page, found: AsTrained) -> None:
    for output, score in found.score_names.items():
        page.line()
        page.line(f"{output}: from training to the device ({found.rows} rows)", strong=True)
        page.table(
            ["step", "how", score, "lost", "agreement"],
            [
                [
                    step.name,
                    step.how,
                    number(step.scores.get(output)),
                    _signed(step.lost.get(output)),
                    number(step.agreement.get(output)),
                ]
                for step in found.steps
            ],
            left=2,
        )
    show_inputs(page, found.inputs)
    for note in found.notes:
        page.line(f"  note: {note}")
    if found.explanation:
        page.line(f"  {found.explanation}")
    if found.search:
        show_search(page, found.search)


def show_inputs(page: Page, inputs: Sequence[InputDifference]) -> None:
    """How far the device's inputs are from the training's."""
    for item in inputs:
        page.line(
            f'  input "{item.tensor}": {small(item.mean)} from the training\'s on average, {small(item.max)} at most; '
            f"its values spread by {small(item.spread)}{': not the same' if item.differs else ''}"
        )


def show_search(page: Page, search: CardSearch) -> None:
    outputs = list(search.as_is.scores)
    page.table(
        ["input", "what", "tried", *outputs, "from training"],
        [
            [
                trial.change.tensor if trial.change else "",
                trial.change.key if trial.change else "the card as it is",
                trial.change.tried if trial.change else "",
                *(number(trial.scores[name]) for name in outputs),
                small(trial.difference),
            ]
            for trial in (search.as_is, *search.tried)
        ],
        left=3,
    )


def _show_filled(page: Page, evaluation: Evaluation) -> None:
    if evaluation.filled_rows:
        which = ", ".join(f"{name} {count}" for name, count in evaluation.filled.items())
        page.line(
            f"features missing in {evaluation.filled_rows} of {evaluation.rows} rows, the card's fill values stood in "
            f"({which})"
        )


def _show_head(page: Page, name: str, head: HeadEvaluation) -> None:
    page.line()
    labelled = f"{head.labelled} rows with a label" if head.labelled else "no labels"
    page.line(f"{name}: {head.task}, {head.score_name} {number(head.score)} ({labelled})", strong=True)
    if head.result is None:
        return
    page.table(["measure", "value"], main_lines(head.result))
    if isinstance(head.result, ClassificationResult):
        _show_classes(page, head.result)
    elif isinstance(head.result, DetectionResult):
        page.table(
            ["class", "boxes", "AP@[.5:.95]", "AP@0.5"],
            [[c.label, str(c.support), number(c.ap), number(c.ap50)] for c in head.result.classes[:CLASSES_MOST]],
        )


def _show_classes(page: Page, result: ClassificationResult) -> None:
    classes = sorted(
        (item for item in result.classes if item.support or item.answered),
        key=lambda item: 1.0 if item.f1 is None else item.f1,
    )
    many = len(classes) > CLASSES_MOST
    shown = classes[:CLASSES_MOST] if many else [item for item in result.classes if item in classes]
    page.line()
    if many:
        page.line(f"the {CLASSES_MOST} weakest of {len(classes)} classes:")
    page.table(
        ["class", "rows", "answered", "precision", "recall", "F1", "AUC"],
        [[c.label, str(c.support), str(c.answered), *map(number, (c.precision, c.recall, c.f1, c.auc))] for c in shown],
    )
    page.line()
    labels = [item.label for item in result.classes]
    if result.confusion is not None and len(labels) <= CONFUSION_MOST:
        rows = [[label, *map(str, counts)] for label, counts in zip(labels, result.confusion, strict=True)]
        page.table(["truth \\ answer", *labels], rows)
    elif result.confused:
        page.table(["truth", "answer", "rows"], [[c.truth, c.answer, str(c.count)] for c in result.confused], left=2)


def _signed(value: float | None) -> str:
    return NOTHING if value is None else f"{value:+.4f}"
