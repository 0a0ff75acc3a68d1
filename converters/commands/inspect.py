"""``edge-convert inspect``: what a model file says of itself, what it holds and where it would run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from converters.commands.common import add_json, add_model, parser
from converters.files import check_output, write_whole
from converters.inspection import Inspection, inspect
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import IDENTIFIER
from edge_agent.io.onnx_file import looks_like_onnx

if TYPE_CHECKING:  # it needs ONNX Runtime
    from converters.jetson.onnx_inspection import OnnxInspection


def main(argv: Sequence[str]) -> int:
    arguments = parser(
        "inspect", "Show a .tflite or .onnx: inputs, outputs, quantisation, ops, where they would run, metadata."
    )
    add_model(arguments, trained=False)
    arguments.add_argument("--layers", action="store_true", help="list every op, not only the largest")
    arguments.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the features of the drift reference into a PNG"
    )
    add_json(arguments)
    options = arguments.parse_args(argv)
    if options.plot is not None:
        check_output(options.plot)
    path = Path(options.model)
    if _is_onnx(path):
        return _show_onnx(path, options)
    found = inspect(path)
    if options.plot is not None:
        _plot(found, options.plot)
    if options.json:
        print(msgspec.json.encode(found).decode())
        return 0
    from converters.inspection_text import console, inspection_text

    console().print(inspection_text(found, layers=options.layers))
    if found.drift is not None:
        from converters.drift_text import reference_text

        console().print(reference_text(found.drift))
    return 0


def _is_onnx(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError:  # the usual way says why
        return False
    return looks_like_onnx(head) and head[4:] != IDENTIFIER


def _show_onnx(path: Path, options: argparse.Namespace) -> int:
    from converters.jetson.onnx_inspection import inspect_onnx, onnx_text

    if options.layers:
        raise ConfigError(f"{path}: --layers is for a .tflite")
    found = inspect_onnx(path)
    if options.plot is not None:
        _plot(found, options.plot)
    print(msgspec.json.encode(found).decode() if options.json else onnx_text(found))
    return 0


def _plot(found: Inspection | OnnxInspection, path: Path) -> None:
    facts = found.drift
    if facts is None or facts.error:
        why = facts.error if facts else "the model has no drift reference; `edge-convert baseline` puts one in"
        raise ConfigError(f"--plot {path}: {why}")
    from converters.report.distributions import distributions_png

    title = f"{found.card.name or Path(found.path).stem} {found.card.version}: {facts.rows:,} rows of its reference"
    write_whole(path, distributions_png(facts.features, title))
