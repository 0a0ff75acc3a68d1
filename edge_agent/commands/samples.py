"""``edge-agent samples``: what was kept for labelling and retraining, and a folder of it that the converters read."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_agent.commands.common import add_config, add_json, look_at_service, parser
from edge_agent.commands.samples_exported import export
from edge_agent.core.wire import printable
from edge_agent.errors import ConfigError
from edge_agent.io.sample_store import FOLDER, Found, look
from edge_agent.loading import drift_folder, load_configuration
from edge_agent.monitoring import Sample

LIST_SCHEMA = "edge-agent/samples/1"
EXPORT_SCHEMA = "edge-agent/samples-exported/1"
DOES = """\
  list            what is kept: when, why, with a picture or without, with which label (the default)
  export FOLDER   write a new folder that `edge-convert … --data FOLDER` reads

Reads only what the daemon keeps; nothing is taken away. [drift.samples] says what is kept.
"""


def main(argv: Sequence[str]) -> int:
    """0: done; 1: nothing that could be exported."""
    arguments = parser("samples", "Samples for labelling and retraining.")
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.epilog = DOES
    arguments.add_argument("what", nargs="?", default="list", choices=("list", "export"), metavar="list|export")
    arguments.add_argument("folder", nargs="?", type=Path, metavar="FOLDER")
    arguments.add_argument("--pipeline", metavar="NAME", help="only samples of this pipeline")
    add_config(arguments)
    add_json(arguments)
    options = arguments.parse_args(argv)
    if (options.what == "export") != (options.folder is not None):
        arguments.error("export needs FOLDER" if options.what == "export" else "list takes no FOLDER")
    look_at_service(options.config)
    loaded = load_configuration(options.config)
    names = [pipeline.name for pipeline in loaded.config.pipeline]
    if options.pipeline is not None and options.pipeline not in names:
        raise ConfigError(f"no pipeline {options.pipeline!r} in {loaded.path}; it has: {', '.join(names)}")
    source = drift_folder(loaded) / FOLDER
    found = look(source)
    samples = [sample for sample in found.samples if options.pipeline in (None, sample.pipeline)]
    if options.what == "list":
        print(json.dumps(_as_json(source, samples, found)) if options.json else _as_text(source, samples, found))
        return 0
    exported = export(source, samples, options.folder)
    if options.json:
        said = {"rows": exported.rows, "labelled": exported.labelled, "left_out": exported.left_out}
        print(json.dumps({"schema": EXPORT_SCHEMA, "folder": str(options.folder), **said}))
    else:
        for reason, count in exported.left_out.items():
            print(f"left out: {count} {reason}", file=sys.stderr)
        print(f"{options.folder}: {exported.rows} samples, {exported.labelled} of them labelled")
    return 0 if exported.rows else 1


def _as_json(folder: Path, samples: Sequence[Sample], found: Found) -> dict[str, object]:
    return {
        "schema": LIST_SCHEMA,
        "folder": str(folder),
        "samples": [
            {
                "id": sample.held.id,
                "pipeline": sample.pipeline,
                "time": sample.time,
                "clock_synced": sample.clock_synced,
                "reason": sample.held.reason,
                "rank": sample.held.rank,
                "picture": bool(sample.picture),
                "labels": sample.labels,
                "model": {"name": sample.model.name, "version": sample.model.version, "sha256": sample.model.sha256},
            }
            for sample in samples
        ],
        "damaged": [path.name for path in found.damaged],
    }


def _as_text(folder: Path, samples: Sequence[Sample], found: Found) -> str:
    reasons = Counter(sample.held.reason for sample in samples)
    said = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none"
    lines = [f"{folder}: {len(samples)} samples ({said})"]
    if found.damaged:
        lines.append(f"{len(found.damaged)} damaged files, which the daemon puts aside when it starts")
    for sample in samples:
        clock = "" if sample.clock_synced else " (clock not synchronised)"
        labels = ", ".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in sample.labels.items())
        picture = "picture" if sample.picture else "-"
        cells = (f"{sample.time}{clock}", f"{sample.held.reason:11}", f"{picture:7}", sample.held.id, labels)
        lines.append(printable("  ".join(cells).rstrip()))
    return "\n".join(lines)
