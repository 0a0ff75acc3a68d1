"""Tables of the benchmark: Markdown for a person, and into the documentation between two markers."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

from converters.evaluation.cost import this_machine
from edge_agent.io.runtimes.litert import load_library

PAGE = Path(__file__).resolve().parents[2] / "docs" / "converters.md"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; numbers stand at the right, which is every column but the first."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def measured_on(rows: int) -> str:
    """Where and when, in one line."""
    machine = this_machine(load_library().version)
    when = datetime.datetime.now(tz=datetime.timezone.utc).date().isoformat()
    return (
        f"{rows} test rows; {machine.cpu}, {machine.cores} cores, {platform.machine()}, Python "
        f"{platform.python_version()}, {machine.runtime}, one thread with XNNPACK; {when}."
    )


def write_between(name: str, text: str, page: Path = PAGE) -> None:
    """Put ``text`` between the markers of ``name`` in the page. Raises ValueError where the page has none."""
    begin, end = f"<!-- benchmark: {name} -->", f"<!-- end: {name} -->"
    content = page.read_text(encoding="utf-8")
    if begin not in content or end not in content:
        raise ValueError(f"{page}: no lines {begin} and {end} to write between")
    before, rest = content.split(begin, 1)
    _, after = rest.split(end, 1)
    temporary = page.with_suffix(".md.part")
    temporary.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
    temporary.replace(page)


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".removeprefix("0")


def signed(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if abs(value) < 5e-5 else f"{value:+.4f}".replace("0.", ".", 1)


def small(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def kilobytes(octets: int | None) -> str:
    return "" if octets is None else f"{octets / 1000:.0f}"


def milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
