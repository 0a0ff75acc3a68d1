"""An inspection as tables for a person."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from converters.inspection import BackEnd, Inspection, Layer, Port

LAYERS_SHOWN = 10
REASONS_SHOWN = 8
NAME_SHOWN = 48
_TITLES = {"xnnpack": "CPU with XNNPACK", "edgetpu": "Edge TPU", "gpu": "GPU delegate"}


def console(stream: IO[str] | None = None) -> Console:
    """As wide as the terminal; as COLUMNS says, or 120, where the output goes to a file."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", "") or 120)
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def inspection_text(found: Inspection, *, layers: bool) -> RenderableType:
    """All of it; ``layers``: every op, not only the largest."""
    parts: list[RenderableType] = [_head(found), _ports_table(found), _operations_table(found)]
    shown = found.layers if layers else _largest(found.layers)
    if any(layer.constant_bytes for layer in shown) or layers:
        parts.append(_layers_table(found, shown, layers))
    parts.append(back_ends_text(_that_matter(found), multiplies=found.macs > 0))
    if found.members:
        parts.append(_members_table(found))
    if found.card.provenance:
        parts.append(_provenance(found))
    parts.append(_notes(found))
    return Group(*(line for part in parts for line in (part, "")))


def back_ends_text(back_ends: Sequence[BackEnd], *, multiplies: bool) -> RenderableType:
    """Where ops run: shares, then what stays on the CPU and why. ``multiplies``: the model has MACs to share."""
    table = titled("Where it would run")
    for name in ("back-end", "ops", "share", "of MACs", ""):
        table.add_column(name, justify="right" if name in ("ops", "share", "of MACs") else "left")
    for item in back_ends:
        ops = f"{item.taken} of {item.ops}"
        of_macs = f"{item.macs_share:.0%}" if multiplies else ""
        add_row(table, _TITLES.get(item.target, item.target), ops, f"{item.share:.0%}", of_macs, _how(item))
    return Group(table, *(Text(printable(line)) for item in back_ends for line in _left(item)))


def _how(item: BackEnd) -> str:
    if not item.measured:
        return f"prediction: {item.basis}"
    return f"measured here with {item.basis}" if item.target == "xnnpack" else item.basis


def titled(title: str) -> Table:
    """A table with a title on its left and no frame, which reads the same in a file."""
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))


def add_row(table: Table, *cells: str) -> None:
    """Names come out of files: what would move the cursor or change colours is not printed."""
    table.add_row(*(printable(cell) for cell in cells))


def printable(text: str) -> str:
    """Without control characters, line breaks apart."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def _head(found: Inspection) -> Text:
    model = "model ends where nobody knows" if found.flatbuffer_bytes is None else f"model {found.flatbuffer_bytes:,}"
    count = len(found.members)
    behind = f", {count} file{'s' if count > 1 else ''} behind it" if count else ""
    lines = [f"{found.path}", f"{found.file_bytes:,} bytes ({model}{behind}), sha256 {found.sha256[:16]}"]
    name = " ".join(part for part in (found.card.name, found.card.version) if part)
    facts = [name or found.metadata.name, found.quantisation]
    if not found.compiled_for_edgetpu:
        facts.append(f"{found.parameters:,} parameters; {found.macs / 1e6:,.1f} M multiply-accumulates (MACs)")
    if found.minimum_runtime:
        facts.append(f"needs TFLite {found.minimum_runtime} or newer")
    return Text(printable("\n".join([*lines, "; ".join(fact for fact in facts if fact)])))


def _ports_table(found: Inspection) -> Table:
    table = titled("Inputs and outputs")
    for name in ("", "name", "role", "shape", "type", "scale", "zero point"):
        table.add_column(name, justify="right" if name in ("scale", "zero point") else "left", overflow="fold")
    for side, ports in (("in", found.inputs), ("out", found.outputs)):
        for port in ports:
            scale = "" if port.scale is None else f"{port.scale:.6g}"
            zero = "" if port.zero_point is None else str(port.zero_point)
            add_row(table, side, port.name, port.role, _shape(port), port.dtype, scale, zero)
    return table


def _operations_table(found: Inspection) -> Table:
    table = titled("Operations")
    for name in ("op", "computes in", "weights", "count", "bytes", "MACs"):
        table.add_column(name, justify="right" if name in ("count", "bytes", "MACs") else "left", overflow="fold")
    for row in found.operations:
        add_row(table, row.name, row.dtype, row.weights, str(row.count), _number(row.constant_bytes), _number(row.macs))
    return table


def _largest(layers: Sequence[Layer]) -> list[Layer]:
    return sorted(layers, key=lambda layer: -layer.constant_bytes)[:LAYERS_SHOWN]


def _layers_table(found: Inspection, shown: Sequence[Layer], everything: bool) -> Table:
    total = sum(layer.constant_bytes for layer in found.layers) or 1
    table = titled("Layers" if everything else f"Largest layers, {len(shown)} of {len(found.layers)}")
    for name in ("#", "op", "type", "bytes", "share", "MACs", "output"):
        right = name in ("#", "bytes", "share", "MACs")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "output", overflow="fold")
    for layer in shown:
        share = f"{layer.constant_bytes / total:.1%}"
        size = _number(layer.constant_bytes)
        add_row(table, str(layer.op), layer.name, layer.dtype, size, share, _number(layer.macs), _short(layer.tensor))
    return table


def _members_table(found: Inspection) -> Table:
    table = titled("Files behind the model")
    table.add_column("name", overflow="fold")
    table.add_column("bytes", justify="right")
    for member in found.members:
        add_row(table, member.name, f"{member.bytes:,}")
    return table


def _provenance(found: Inspection) -> Table:
    table = titled("Provenance")
    table.show_header = False
    for key, value in found.card.provenance.items():
        add_row(table, str(key), str(value))
    return table


def _notes(found: Inspection) -> Text:
    lines = [*found.notes, *found.card.notes, *found.own_normalisation]
    if found.card.error:
        lines.append(found.card.error)
    if found.metadata.error:
        lines.append(f"standard metadata: {found.metadata.error}")
    if found.compiled_for_edgetpu and not found.cpu_build:
        lines.append("no CPU build inside: without an Edge TPU it does not run")
    lines += [f"{_TITLES.get(item.target)}: {item.problem}" for item in _that_matter(found) if item.problem]
    has = {"golden samples": found.golden, "a drift reference": found.drift_reference}
    lines.append("; ".join(f"{what}: {'yes' if there else 'no'}" for what, there in has.items()))
    return Text.assemble(("Notes", "bold"), *(f"\n- {printable(line)}" for line in lines))


def _that_matter(found: Inspection) -> list[BackEnd]:
    """A compiled model runs on the Edge TPU or, by its CPU build, elsewhere: what others would do with it is idle."""
    return [item for item in found.back_ends if item.target == "edgetpu" or not found.compiled_for_edgetpu]


def _left(item: BackEnd) -> Iterator[str]:
    """One line for each reason, with all that it keeps on the CPU."""
    by_reason: dict[str, list[str]] = {}
    for left in item.left:
        by_reason.setdefault(left.reason, []).append(f"{left.count} x {left.name}" if left.count > 1 else left.name)
    shown = [*by_reason.items()][:REASONS_SHOWN]
    if shown:
        yield f"not on {_TITLES.get(item.target, item.target)}:"
    for reason, names in shown:
        yield f"  {', '.join(names)}: {reason}"
    if len(by_reason) > len(shown):
        yield f"  and for {len(by_reason) - len(shown)} more reasons (--json has all)"


def _shape(port: Port) -> str:
    if port.shape is None:
        return "set by the op"
    return "x".join("?" if size < 0 else str(size) for size in port.shape) or "scalar"


def _short(name: str) -> str:
    """A converter joins the names of all that it fused into one op: the first is enough to find it."""
    first = name.partition(";")[0]
    return first if len(first) <= NAME_SHOWN else f"…{first[-NAME_SHOWN + 1 :]}"


def _number(value: int) -> str:
    return f"{value:,}" if value else ""
