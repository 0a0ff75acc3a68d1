"""``edge-convert prune``: weights to zero or channels away, fine-tuned, measured beside honest baselines."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from converters.commands.qat import above_zero, add_training
from converters.dressing import finish
from converters.evaluation.text import Page
from converters.files import check_output, write_whole
from converters.techniques.pruning import (
    EPOCHS,
    KEEP,
    LEARNING_RATE,
    SPARSITY,
    Pruned,
    prune_channels,
    prune_magnitude,
)
from converters.techniques.words import show
from converters.workbench import Workbench, open_workbench
from edge_agent.errors import ConfigError

SCHEMA = "edge-agent/convert-prune/1"
SUFFIXES = (".keras", ".tflite")


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output)
    check_suffix(options.output)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        bench = open_workbench(
            options.model, work=Path(work), card=options.card, data=options.data, progress=terminal()
        )
        result = _pruned(bench, options)
        written = write_whole(options.output, _content(bench, options, result))
    if options.json:
        answer = {
            "schema": SCHEMA,
            "ok": True,
            "path": str(written.path),
            "sha256": written.sha256,
            "bytes": written.bytes,
            "settings": _settings(options),
            "facts": result.facts,
            "comparison": result.comparison.to_json(),
            "said": list(result.said),
        }
        print(json.dumps(answer))
    else:
        page = Page()
        show(page, result.comparison, result.said)
        page.line(f"wrote {written.path}, {written.bytes} bytes")
    return 0


def check_suffix(path: Path) -> None:
    """Raises ConfigError for a file that could be neither a Keras model nor a .tflite."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"-o {path}: end the name in .keras for the trained model or in .tflite for the int8 file")


def _pruned(bench: Workbench, options: argparse.Namespace) -> Pruned:
    shared = {
        "epochs": options.epochs,
        "learning_rate": options.learning_rate,
        "seed": options.seed,
        "limit": options.limit,
    }
    if options.method == "magnitude":
        return prune_magnitude(bench, sparsity=options.sparsity, **shared)
    return prune_channels(bench, keep=options.keep, scratch_epochs=options.scratch_epochs, **shared)


def _content(bench: Workbench, options: argparse.Namespace, result: Pruned) -> bytes:
    if options.output.suffix == ".keras":
        return result.keras
    technique = {"name": "prune", **_settings(options)}
    file = result.pruned.quantized
    return finish(bench, file, name=options.name, version=options.model_version, technique=technique)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    amount = {"sparsity": options.sparsity} if options.method == "magnitude" else {"keep": options.keep}
    names = ("epochs", "learning_rate", "seed")
    return {"method": options.method, **amount, **{name: getattr(options, name) for name in names}}


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "prune",
        "Remove weights or channels of a Keras model, fine-tune it, measure it beside the original and beside what was "
        "trained as long without. Magnitude: a smaller compressed download, nothing else. Channels: a smaller and "
        "perhaps faster model.",
    )
    add_model(arguments, trained=True)
    add_card(arguments)
    add_data(arguments, required=True)
    add_output(arguments, "the .keras (trained) or .tflite (int8) to write")
    arguments.add_argument(
        "--method", choices=("magnitude", "channels"), default="magnitude", help="what to remove (default: magnitude)"
    )
    arguments.add_argument(
        "--sparsity",
        type=above_zero(1, reached=False),
        default=SPARSITY,
        metavar="X",
        help=f"magnitude: share of the weights that become zero (default {SPARSITY:g})",
    )
    arguments.add_argument(
        "--keep",
        type=above_zero(1, reached=False),
        default=KEEP,
        metavar="X",
        help=f"channels: share of the channels that stay (default {KEEP:g})",
    )
    add_training(arguments, EPOCHS, LEARNING_RATE)
    arguments.add_argument(
        "--scratch-epochs",
        type=positive,
        metavar="N",
        help="channels: epochs of the model trained anew to compare (default: as many as --epochs)",
    )
    add_identity(arguments)
    add_json(arguments)
    return arguments
