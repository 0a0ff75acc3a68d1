"""``edge-convert qat``: fine-tune with int8 steps in the loop, beside post-training quantisation."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from converters.commands.common import (
    add_card,
    add_data,
    add_identity,
    add_json,
    add_model,
    add_output,
    parser,
    positive,
    terminal,
)
from converters.dressing import finish
from converters.evaluation.text import Page
from converters.files import check_output, write_whole
from converters.steps import Io
from converters.techniques.qat import EPOCHS, LEARNING_RATE, Tuned, tuned
from converters.techniques.words import show
from converters.workbench import open_workbench

SCHEMA = "edge-agent/convert-qat/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        bench = open_workbench(
            options.model, work=Path(work), card=options.card, data=options.data, progress=terminal()
        )
        result = tuned(
            bench,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            seed=options.seed,
            limit=options.limit,
            io=options.io,
        )
        technique = {"name": "qat", **_settings(options)}
        content = finish(bench, result.quantized, name=options.name, version=options.model_version, technique=technique)
        written = write_whole(options.output, content)
    if options.json:
        print(json.dumps(_answer(options, result, str(written.path), written.sha256, written.bytes)))
    else:
        page = Page()
        show(page, result.comparison, result.said)
        page.line(f"wrote {written.path}, {written.bytes} bytes, {result.quantized.scheme}: {result.quantized.method}")
    return 0


def _answer(options: argparse.Namespace, result: Tuned, path: str, sha256: str, size: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "ok": True,
        "path": path,
        "sha256": sha256,
        "bytes": size,
        "settings": _settings(options),
        "comparison": result.comparison.to_json(),
        "said": list(result.said),
    }


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {"epochs": options.epochs, "learning_rate": options.learning_rate, "seed": options.seed}


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "qat", "Fine-tune a model with int8 steps in the loop, measure it beside post-training quantisation, write it."
    )
    add_model(arguments, trained=True)
    add_card(arguments)
    add_data(arguments, required=True)
    add_output(arguments, "the .tflite to write")
    add_training(arguments, EPOCHS, LEARNING_RATE)
    arguments.add_argument("--io", choices=get_args(Io), default="int8", help="what the model takes and gives")
    add_identity(arguments)
    add_json(arguments)
    return arguments


def add_training(arguments: argparse.ArgumentParser, epochs: int, learning_rate: float) -> None:
    """--epochs, --learning-rate and --seed, which `prune` and `distill` have too."""
    arguments.add_argument(
        "--epochs", type=positive, default=epochs, metavar="N", help=f"times over the training rows (default {epochs})"
    )
    arguments.add_argument(
        "--learning-rate",
        type=above_zero(1),
        default=learning_rate,
        metavar="X",
        help=f"at the beginning, falling to 0 (default {learning_rate:g})",
    )
    arguments.add_argument("--seed", type=_seed, default=0, metavar="N", help="same seed, same bytes (default 0)")


def above_zero(most: float, *, reached: bool = True) -> Callable[[str], float]:
    """For argparse: a number above 0, below ``most`` or, where it may be ``reached``, at most that."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not (0 < value < most or (reached and value == most)):
            end = f"at most {most:g}" if reached else f"below {most:g}"
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number above 0 and {end}")
        return value

    return read


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 0 to 4294967295")
    return int(text)
