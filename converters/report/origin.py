"""Where the file comes from and what made it: card, provenance, versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from converters.card_file import card_builtins
from converters.dressing import PACKAGES, complete_card
from converters.report.blocks import Block, Code, Column, Paragraph, Section, Table
from converters.report.content import ReportContent


def origin_sections(content: ReportContent) -> list[Section]:
    """Provenance as the file itself says it, the card in full, and what made this report."""
    own = content.model.file.card or {}
    provenance: Mapping[str, Any] = own.get("provenance", {})
    blocks: list[Block] = []
    if provenance:
        columns = (Column("fact"), Column("value", wide=True))
        blocks.append(Table("Provenance, as the file says", columns, tuple(_facts(provenance))))
    else:
        blocks.append(Paragraph("The file does not say where it comes from.", "note"))
    made = {"python": platform.python_version(), "machine": platform.machine()}
    made |= {package: version(package) for package in PACKAGES}
    columns = (Column("package"), Column("version"))
    blocks.append(Table("What measured it", columns, tuple(made.items())))
    card = card_builtins(complete_card(content.model.card))
    blocks.append(Code("The card, as the device reads it", json.dumps(card, indent=1, ensure_ascii=False)))
    return [Section("origin", "Origin", tuple(blocks))]


def _facts(values: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested facts as "source sha256"."""
    found = []
    for key, value in values.items():
        name = f"{before} {key}".strip()
        if isinstance(value, Mapping):
            found += _facts(value, name)
        else:
            found.append((name, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return found
