"""What a reader wants first: which file this is, whether it is good, and where accuracy went."""

from __future__ import annotations

from converters.evaluation.as_trained import AsTrained
from converters.evaluation.cost import Cost
from converters.quantization.rungs import Rung
from converters.report import charts
from converters.report.blocks import Block, Column, Columns, Paragraph, Picture, Section, Table, Tile, Tiles, Tone
from converters.report.content import ReportContent
from converters.report.words import NOTHING, kilobytes, milliseconds, number, percent, plural, score, signed

ROUNDING = 1e-9  # 0.94 - 0.93 is a little over 0.01 in floating point
SCORES_MOST = 3


def headline(content: ReportContent) -> tuple[str, Tone]:
    """One sentence, and whether it is good news."""
    if content.deployed is None:
        return "Nothing was measured: this report was made without a data set.", "note"
    lost, output = content.loss, content.worst_output
    head = content.deployed.evaluation.outputs[output or ""]
    several = f" of “{output}”, the output that lost most," if len(content.deployed.evaluation.outputs) > 1 else ""
    name = head.score_name.capitalize() if head.score_name.islower() else head.score_name  # not mAP
    reached = f"{name}{several} {score(head.score)}"
    said = f"{reached} on {plural(content.deployed.evaluation.rows, 'test row')}"
    if lost is None:
        return f"{said}; there was no float model to compare with.", "plain"
    if head.labelled:
        how = f"{score(abs(lost))} {'below' if lost > 0 else 'above'}" if abs(lost) >= 5e-5 else "the same as"
        said += f": {how} the float model"
    if content.bound is None:
        return f"{said}. No bound was asked for.", "plain"
    if lost <= content.bound + ROUNDING:
        return f"{said}, within the bound of {content.bound:g}.", "good"
    return f"{said}, which misses the bound of {content.bound:g}.", "bad"


def tiles(content: ReportContent) -> Tiles:
    """The numbers that matter, as far as they are there."""
    found = []
    if content.deployed is not None:
        found += _scores(content)
        if content.loss is not None:
            asked = "no bound asked" if content.bound is None else f"bound {content.bound:g}"
            found.append(Tile("lost against float", signed(content.loss), asked))
        agreements = [h.agreement for h in content.deployed.evaluation.outputs.values() if h.agreement]
        if agreements:
            least = min(agreements, key=lambda item: item.agreement)
            error = "" if least.mean_error is None else f"mean difference {number(least.mean_error)}"
            found.append(Tile("agreement with float", score(least.agreement), error))
    size = len(content.model.file.content)
    before = content.float_bytes
    found.append(Tile("file", kilobytes(size), f"float {kilobytes(before)}" if before else ""))
    if cost := _cost(content):
        found.append(
            Tile("one run here", milliseconds(cost.p50_ms), f"{percent(0.95)} below {milliseconds(cost.p95_ms)}")
        )
        if cost.memory_mb is not None:
            found.append(Tile("memory here", f"{cost.memory_mb:g} MB", "peak of a process that runs it"))
    return Tiles(tuple(found))


def steps_section(content: ReportContent) -> list[Section]:
    """From the score that training saw to the score on the device."""
    steps = content.as_trained
    if steps is None:
        return []
    blocks: list[Block] = []
    if steps.explanation:
        blocks.append(Paragraph(steps.explanation[:1].upper() + steps.explanation[1:] + ".", _tone(steps)))
    charts_: list[Block] = []
    for name, measure in steps.score_names.items():
        scores = [step.scores.get(name) for step in steps.steps]
        known = [(step.name, value) for step, value in zip(steps.steps, scores, strict=True) if value is not None]
        if len(known) > 1:
            chart = charts.waterfall([n for n, _ in known], [v for _, v in known], measure)
            several = f" of “{name}”" if len(steps.score_names) > 1 else ""
            charts_.append(Picture(chart, f"What each step took from the {measure}{several}, or gave to it."))
    if charts_:
        blocks.append(Columns(tuple(charts_)) if len(charts_) > 1 else charts_[0])
    blocks += [_steps_table(steps, name) for name in steps.score_names]
    if steps.inputs:
        rows = tuple((i.tensor, number(i.mean), number(i.max), number(i.spread)) for i in steps.inputs)
        columns = (Column("input"), Column("mean", True), Column("largest", True), Column("spread of values", True))
        blocks.append(Table("The device's inputs against the training's", columns, rows))
    blocks += [Paragraph(f"{note[:1].upper()}{note[1:]}.", "note") for note in steps.notes]
    return [Section("steps", "From training to the device", tuple(blocks))]


def _tone(steps: AsTrained) -> Tone:
    return "bad" if steps.search and steps.search.best else "plain"


def _steps_table(steps: AsTrained, output: str) -> Table:
    rows = tuple(
        (
            step.name,
            step.how,
            score(step.scores.get(output)),
            signed(step.lost[output]) if output in step.lost else "",
            score(step.agreement[output]) if output in step.agreement else "",
            number(step.max_error.get(output)) if output in step.max_error else "",
        )
        for step in steps.steps
    )
    columns = (
        Column("step"),
        Column("how it was run"),
        Column(steps.score_names[output], True),
        Column("lost", True),
        Column("agreement with the step before", True),
        Column("largest difference", True),
    )
    return Table(f"Each step of “{output}”" if len(steps.score_names) > 1 else "Each step", columns, rows)


def ladder_section(content: ReportContent) -> list[Section]:
    """The rungs that were tried, in order."""
    ladder = content.ladder
    if ladder is None or not ladder.rungs:
        return []
    blocks: list[Block] = []
    tried = [(number, rung, rung.drop) for number, rung in enumerate(ladder.rungs) if rung.drop is not None]
    if tried:
        marks = [
            charts.Mark(rung.name, drop, rung.bytes / 1e3, rung.outcome == "met", number == ladder.chosen)
            for number, rung, drop in tried
        ]
        caption = "Each rung on the rows it was chosen on: ● within the bound, ✕ not within it, ▸ the one in this file."
        blocks.append(Picture(charts.ladder(marks, ladder.max_drop), caption))
    rows = tuple(_rung(rung, number == ladder.chosen) for number, rung in enumerate(ladder.rungs))
    numeric = ("score", "lost", "confirmed", "lost", "agreement", "in float", "size", "seconds")
    columns = (Column("rung"), *(Column(name, True) for name in numeric), Column("what came of it"))
    marked = () if ladder.chosen is None else (ladder.chosen,)
    blocks.append(Table("Every rung; confirmed means on the test rows", columns, rows, marked))
    return [Section("ladder", "What was tried to stay within the bound", tuple(blocks))]


def _rung(rung: Rung, chosen: bool) -> tuple[str, ...]:
    tried = rung.outcome != "skipped"
    return (
        f"▸ {rung.name}" if chosen else rung.name,
        score(rung.score),
        signed(rung.drop),
        score(rung.final_score),
        signed(rung.final_drop),
        score(rung.agreement),
        plural(len(rung.float_ops), "op") if tried else NOTHING,
        kilobytes(rung.bytes) if tried else NOTHING,
        f"{rung.seconds:.1f}" if tried else NOTHING,
        {"met": "within the bound", "missed": "not within it"}.get(rung.outcome, f"skipped: {rung.verdict}"),
    )


def cost_section(content: ReportContent) -> list[Section]:
    """What it costs on this machine, with the warning that this is no device."""
    costs = [("float", content.reference_cost), ("as deployed", _cost(content))]
    known = [(name, cost) for name, cost in costs if cost is not None]
    if not known:
        return []
    columns = (
        *(
            Column("model"),
            Column("half of the runs below", True),
            Column(f"{percent(0.95)} below", True),
            Column("memory", True),
        ),
        *(Column("file", True), Column("graph alone", True), Column("compressed", True)),
    )
    rows = tuple(
        (
            name,
            milliseconds(cost.p50_ms),
            milliseconds(cost.p95_ms),
            NOTHING if cost.memory_mb is None else f"{cost.memory_mb:g} MB",
            *(kilobytes(octets) for octets in (cost.file_bytes, cost.model_bytes, cost.deflated_bytes)),
        )
        for name, cost in known
    )
    machine = known[-1][1].machine
    place = (
        f"{machine.cpu}, {plural(machine.cores, 'core')}, {machine.architecture}, {machine.runtime}, "
        f"{plural(machine.threads, 'thread')}, {known[-1][1].delegate}, {known[-1][1].runs} runs."
    )
    caveat = known[-1][1].caveat
    said = Paragraph(f"{place} {caveat[:1].upper()}{caveat[1:]}.", "note")
    return [Section("cost", "What it costs on this machine", (Table("Time, memory, size", columns, rows), said))]


def _scores(content: ReportContent) -> list[Tile]:
    """One for each output, at most three."""
    if content.deployed is None:
        return []
    heads = content.deployed.evaluation.outputs
    before = content.reference.evaluation.outputs if content.reference else {}
    found = []
    for name, head in list(heads.items())[:SCORES_MOST]:
        label = f"{head.score_name} of “{name}”" if len(heads) > 1 else head.score_name
        note = f"float {score(before[name].score)}" if name in before and head.labelled else ""
        found.append(Tile(label, score(head.score), note))
    return found


def _cost(content: ReportContent) -> Cost | None:
    return content.deployed.evaluation.cost if content.deployed else None
