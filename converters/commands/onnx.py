"""``edge-convert onnx``: a torch or ONNX model as an ONNX file for the ONNX Runtime back-end, its card inside."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
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
from converters.evaluation.results import Evaluation
from converters.files import check_output, write_whole
from converters.jetson.making import Wishes, bare_onnx, make_onnx, score_lines, scores_json
from converters.jetson.onnx_file import Precision
from converters.progress import Progress
from converters.steps import CALIBRATION_SAMPLES
from edge_agent.errors import ConfigError

SCHEMA = "edge-agent/convert-onnx/1"
WITHOUT_CARD = "no card inside: the device must be told what each tensor is for, or give --card FILE here"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output)
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        answer, scores = _run(options, Path(work), terminal())
    print(json.dumps(answer) if options.json else _text(answer, scores))
    return 0


def _run(options: argparse.Namespace, work: Path, progress: Progress) -> tuple[dict[str, Any], list[str]]:
    """The answer in JSON, and the scores in words."""
    evaluations: Mapping[Precision, Evaluation] = {}
    if options.card is None:
        if options.int8 or options.data:
            raise ConfigError("--int8 and --data need --card FILE, which says what each tensor is for")
        file = bare_onnx(options.model, work=work, opset=options.opset, progress=progress)
        content, notes = file.content, (*file.notes, WITHOUT_CARD)
    else:
        made = make_onnx(
            options.model,
            card=options.card,
            data=options.data,
            wishes=wishes_of(options, int8=options.int8),
            work=work,
            progress=progress,
        )
        file, notes = made.model.onnx, made.notes
        content = made.dressed("int8" if options.int8 else "fp16")
        evaluations = made.evaluations
    written = write_whole(options.output, content)
    answer = {
        "schema": SCHEMA,
        "ok": True,
        "scheme": "int8" if options.int8 else "float32",
        "path": str(written.path),
        "bytes": written.bytes,
        "sha256": written.sha256,
        "opset": file.opset,
        "inputs": {spec.name: list(spec.shape) for spec in file.inputs},
        "scores": scores_json(evaluations),
        "notes": list(notes),
    }
    return answer, score_lines(evaluations)


def wishes_of(options: argparse.Namespace, *, int8: bool) -> Wishes:
    """The options that `onnx` and `tensorrt` share."""
    return Wishes(
        int8=int8,
        opset=options.opset,
        samples=options.samples,
        limit=options.limit,
        name=options.name,
        version=options.model_version,
    )


def _text(answer: dict[str, Any], scores: Sequence[str]) -> str:
    inputs = ", ".join(f"{name} {tuple(shape)}" for name, shape in answer["inputs"].items())
    lines = [f"wrote {answer['path']}, {answer['bytes']} bytes, {answer['scheme']}, ONNX opset {answer['opset']}"]
    lines += [f"  inputs: {inputs}", *(f"  {line}" for line in scores)]
    return "\n".join([*lines, *(f"  note: {note}" for note in answer["notes"])])


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "onnx",
        "Write a torch or ONNX model as an ONNX file with its card: batch 1, pictures as (1, height, width, channels).",
    )
    add_model(arguments, trained=True)
    add_card(arguments)
    add_data(arguments, required=False)
    add_output(arguments, "the .onnx to write")
    arguments.add_argument(
        "--int8", action="store_true", help="symmetric int8 with QDQ pairs, as TensorRT wants it; needs --data"
    )
    add_onnx_options(arguments)
    add_identity(arguments)
    add_json(arguments)
    return arguments


def add_onnx_options(arguments: argparse.ArgumentParser) -> None:
    """The options that `onnx` and `tensorrt` share."""
    arguments.add_argument("--opset", type=positive, metavar="N", help="of ONNX (default: 18 for torch, else as it is)")
    arguments.add_argument(
        "--samples",
        type=positive,
        default=CALIBRATION_SAMPLES,
        metavar="N",
        help=f"calibration rows (default {CALIBRATION_SAMPLES})",
    )
