"""A report on the Edge TPU for a person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from converters.edgetpu.compiler import CompilerLog
from converters.edgetpu.report import EdgeTpuReport
from converters.inspection_text import add_row, printable, titled
from converters.tflite.placement import Place


def report_text(report: EdgeTpuReport) -> RenderableType:
    """Shares, the first op that stays behind, every op in order, what to do, what the compiler said."""
    parts: list[RenderableType] = [Text(printable("\n".join(_head(report))))]
    if not report.compiled or len(report.ops) > 1:
        parts.append(_ops_table(report.ops))
    if report.advice:
        lines = [f"- {item.fix} ({item.ops} op{'s' if item.ops > 1 else ''})" for item in report.advice]
        parts.append(Text.assemble(("What to do", "bold"), *(f"\n{line}" for line in lines)))
    if report.uncertain:
        parts.append(
            Text.assemble(
                ("Left open by the documentation", "bold"), *(f"\n- {printable(x)}" for x in report.uncertain)
            )
        )
    if said := "\n".join(_compiler(report)):
        parts.append(Text(printable(said)))
    if report.compiler and report.compiler.operators:
        parts.append(_compiler_table(report.compiler))
    return Group(*(line for part in parts for line in (part, "")))


def _head(report: EdgeTpuReport) -> Iterator[str]:
    found = report.prediction
    yield f"{report.path}: {report.quantisation}"
    if report.compiled:
        return
    shares = f"{found.taken} of {found.ops} ops ({found.share:.0%}), {found.macs_share:.1%} of the multiply-accumulates"
    yield f"predicted on the Edge TPU: {shares}"
    if first := found.first_left:
        yield f"first op that stays on the CPU: {first.op} {first.name}: {first.reason}"
    yield f"a prediction from {found.basis}; only the compiler itself decides"


def _ops_table(places: Sequence[Place]) -> Table:
    """Runs of alike ops in one row each, so that a long model stays readable."""
    table = titled("Op by op")
    for name in ("#", "ops", "runs on", "why"):
        table.add_column(name, overflow="fold")
    for (taken, reason), run in groupby(places, key=lambda place: (place.taken, place.reason)):
        group = list(run)
        numbers = f"{group[0].op}" if len(group) == 1 else f"{group[0].op} to {group[-1].op}"
        add_row(table, numbers, _counted(group), "Edge TPU" if taken else "CPU", reason)
    return table


def _counted(group: Sequence[Place]) -> str:
    counts: dict[str, int] = {}
    for place in group:
        counts[place.name] = counts.get(place.name, 0) + 1
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())


def _compiler(report: EdgeTpuReport) -> Iterator[str]:
    if report.compiler:
        log = report.compiler
        yield f"edgetpu_compiler {log.version}: {log.taken} ops on the Edge TPU, {log.left} on the CPU"
        if (log.taken, log.left) != (report.prediction.taken, report.prediction.ops - report.prediction.taken):
            yield "the prediction differs from it: the compiler is right"
    if report.no_compiler:
        yield f"not compiled: {report.no_compiler}"
    if report.refused:
        yield report.refused
    if report.written:
        yield f"wrote {report.written.path}, {report.written.bytes} bytes, sha256 {report.written.sha256[:12]}"
        yield from report.written.notes


def _compiler_table(log: CompilerLog) -> Table:
    table = titled("In the compiler's words")
    table.add_column("op")
    table.add_column("count", justify="right")
    table.add_column("status", overflow="fold")
    for row in log.operators:
        add_row(table, row.name, str(row.count), row.status)
    return table
