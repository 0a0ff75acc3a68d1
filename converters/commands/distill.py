"""``edge-convert distill``: a student with a teacher, beside the same student without."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from converters.commands.common import add_card, add_data, add_identity, add_json, add_output, parser, terminal
from converters.commands.prune import check_suffix
from converters.commands.qat import above_zero, add_training
from converters.dressing import finish
from converters.evaluation.text import Page
from converters.files import check_output, write_whole
from converters.techniques.distillation import ALPHA, EPOCHS, LEARNING_RATE, TEMPERATURE, Distilled, distill
from converters.techniques.words import show
from converters.workbench import Workbench, open_workbench

SCHEMA = "edge-agent/convert-distill/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output)
    check_suffix(options.output)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        bench = open_workbench(
            options.teacher, work=Path(work), card=options.card, data=options.data, progress=terminal()
        )
        result = distill(
            bench,
            options.student,
            temperature=options.temperature,
            alpha=options.alpha,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            seed=options.seed,
            limit=options.limit,
        )
        kind = result.better if options.write == "better" else options.write
        written = write_whole(options.output, _content(bench, options, result, kind))
    if options.json:
        answer = {
            "schema": SCHEMA,
            "ok": True,
            "path": str(written.path),
            "sha256": written.sha256,
            "bytes": written.bytes,
            "settings": _settings(options),
            "better": result.better,
            "written": kind,
            "comparison": result.comparison.to_json(),
            "said": list(result.said),
        }
        print(json.dumps(answer))
    else:
        page = Page()
        show(page, result.comparison, result.said)
        page.line(f"wrote {written.path}, {written.bytes} bytes: {result.student(kind).text}")
    return 0


def _content(bench: Workbench, options: argparse.Namespace, result: Distilled, kind: str) -> bytes:
    if options.output.suffix == ".keras":
        return result.keras[kind]
    technique = {"name": "distill", "student": kind, **_settings(options)}
    file = result.student(kind).quantized
    return finish(bench, file, name=options.name, version=options.model_version, technique=technique)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("temperature", "alpha", "epochs", "learning_rate", "seed")}


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "distill",
        "Train a smaller Keras model with a trained one as its teacher, and once more without, with the same seed, "
        "rows and epochs; measure both, write the better one.",
    )
    arguments.add_argument("teacher", metavar="TEACHER", help="the trained Keras model, .keras or .h5")
    arguments.add_argument(
        "--student",
        required=True,
        metavar="FILE.py:FUNCTION",
        help="returns the untrained Keras model, with the teacher's input and output names; or a Keras file to start "
        "from",
    )
    add_card(arguments)
    add_data(arguments, required=True)
    add_output(arguments, "the .keras (trained) or .tflite (int8) to write")
    arguments.add_argument(
        "--write",
        choices=("better", "taught", "alone"),
        default="better",
        help="which student to write (default: the one with the higher int8 score)",
    )
    arguments.add_argument(
        "--temperature",
        type=above_zero(100),
        default=TEMPERATURE,
        metavar="X",
        help=f"by how much the teacher's answers are softened (default {TEMPERATURE:g})",
    )
    arguments.add_argument(
        "--alpha",
        type=above_zero(1),
        default=ALPHA,
        metavar="X",
        help=f"share of the loss against the teacher, at most 1 (default {ALPHA:g})",
    )
    add_training(arguments, EPOCHS, LEARNING_RATE)
    add_identity(arguments)
    add_json(arguments)
    return arguments
