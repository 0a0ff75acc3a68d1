"""``edge-convert baseline``: put into a model what its data looks like, so that a device can tell when it changes."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.baseline import ROWS_MOST, Baseline, make_baseline
from converters.commands.common import add_card, add_data, add_json, add_model, add_output, parser, terminal
from converters.datasets.splits import spread
from converters.drift_facts import ReferenceFacts, facts_of
from converters.embedding import embed
from converters.evaluation.opened import is_device_file, open_model
from converters.files import check_output, write_whole
from converters.records import Written
from edge_agent.core.drift.reference import encode_reference
from edge_agent.errors import ConfigError
from edge_agent.monitoring import REFERENCE_MEMBER

SCHEMA = "edge-agent/convert-baseline/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    path = Path(options.model)
    if not is_device_file(options.model):
        raise ConfigError(
            f"{path}: no .tflite, and no .onnx with a card: convert it first: a reference belongs to the arithmetic "
            "that made it"
        )
    output = options.output or path
    check_output(output)
    baseline = _made(options)
    for warning in baseline.warnings:
        terminal().say(warning)
    member = encode_reference(baseline.reference)
    written = write_whole(output, embed(path, {REFERENCE_MEMBER: member}))
    facts = facts_of(baseline.reference, len(member))
    if options.json:
        print(json.dumps(_answer(options, written, facts, baseline.warnings)))
        return 0
    from converters.drift_text import reference_text
    from converters.inspection_text import console

    console().print(reference_text(facts))
    said = f"{written.bytes} bytes ({len(member)} of them the reference), sha256 {written.sha256[:12]}"
    print(f"wrote {written.path}, {said}")
    return 0


def _made(options: argparse.Namespace) -> Baseline:
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        opened = open_model(
            options.model,
            data=options.data,
            card=options.card,
            delegate="xnnpack",
            work=Path(work),
            progress=terminal(),
        )
        everything: Sequence[int] = range(len(opened.dataset))
        chosen = everything if options.split == "all" else opened.dataset.rows(options.split)
        rows = spread(chosen, options.limit or ROWS_MOST)
        baseline = make_baseline(
            opened.model,
            opened.dataset,
            rows,
            split=f"{len(rows)} {options.split}",
            embedding=options.embedding,
            progress=terminal(),
        )
        opened.model.close()
        return baseline


def _answer(
    options: argparse.Namespace, written: Written, facts: ReferenceFacts, warnings: Sequence[str]
) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "ok": True,
        "path": str(written.path),
        "sha256": written.sha256,
        "data": options.data,
        "split": options.split,
        "warnings": list(warnings),
        "reference": msgspec.to_builtins(facts),
    }


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "baseline", "Run a representative set through a model and put into it what was seen, for the device to compare."
    )
    add_model(arguments, trained=False)
    add_card(arguments)
    add_data(arguments, required=True, limit=f"use at most N rows, spread evenly (default: {ROWS_MOST:,})")
    arguments.add_argument(
        "--split",
        choices=("test", "train", "calibration", "all"),
        default="test",
        help="which rows (default: test; on rows that it was trained on, a model is surer and more often right)",
    )
    arguments.add_argument(
        "--embedding", metavar="TENSOR", help="an output of the model that is an embedding: watch it too"
    )
    add_output(arguments, "the model with its reference (default: MODEL itself)", required=False)
    add_json(arguments)
    return arguments
