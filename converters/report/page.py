"""The report as one HTML file. Same content, same bytes."""

from __future__ import annotations

from pathlib import Path

from converters.files import check_output, write_whole
from converters.records import Written
from converters.report.blocks import Page, Section
from converters.report.content import ReportContent
from converters.report.layers import layer_section
from converters.report.model import model_sections
from converters.report.origin import origin_sections
from converters.report.overview import cost_section, headline, ladder_section, steps_section, tiles
from converters.report.reference import reference_section
from converters.report.results import result_sections
from converters.report.samples import sample_section


def write_report(content: ReportContent, path: Path) -> Written:
    """Write the report whole or not at all. Raises ConfigError where ``path`` can't be written."""
    check_output(path)
    return write_whole(path, html(page_of(content)).encode())


def page_of(content: ReportContent) -> Page:
    """What the report says, before it is HTML. Absent data has no section."""
    model = content.model
    verdict, tone = headline(content)
    version = model.card.version or "without a version"
    name = content.file_name or Path(model.file.path).name
    sections: list[Section] = [
        *ladder_section(content),
        *steps_section(content),
        *result_sections(content),
        *layer_section(content),
        *sample_section(content),
        *model_sections(content),
        *reference_section(content),
        *cost_section(content),
        *origin_sections(content),
    ]
    return Page(
        title=model.card.name or Path(name).stem,
        subtitle=f"{version} · {name}" + (f" · data: {content.data}" if content.data else ""),
        sha256=model.file.sha256,
        verdict=verdict,
        tone=tone,
        tiles=tiles(content),
        sections=tuple(sections),
        warnings=tuple(f"{note[:1].upper()}{note[1:]}." for note in model.card.notes),
        footer="Made by edge-convert with the device's own arithmetic: pictures and readings were prepared here as the "
        "device prepares them.",
    )


def html(page: Page) -> str:
    """Everything that came from outside (names, labels, messages) is escaped; only the charts, which escape their own
    texts, go in as they are."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("converters.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2").render(page=page)
