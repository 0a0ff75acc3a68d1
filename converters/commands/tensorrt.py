"""``edge-convert tensorrt``: a folder from which a Jetson builds its TensorRT engine and checks it."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from converters.commands.common import add_card, add_data, add_identity, add_json, add_model, parser, terminal
from converters.commands.onnx import add_onnx_options, wishes_of
from converters.jetson.engine_check import check_files
from converters.jetson.making import make_onnx, score_lines, scores_json
from converters.jetson.onnx_file import Precision
from converters.jetson.package import Tried, check_folder, package_files, try_build, write_folder
from converters.progress import Progress
from edge_agent.errors import ConfigError

SCHEMA = "edge-agent/convert-tensorrt/1"
UNTESTED = "untested on hardware: no Jetson was at hand; build_engine.sh has run against a stand-in for trtexec only"
MEASURE = "int8 is not always faster: others report little gain over fp16 on an Orin Nano; build both and measure"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_folder(options.output)
    if options.card is None:
        raise ConfigError("the folder is made with the card: add --card FILE, which says what each tensor is for")
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        answer, scores = _run(options, Path(work), terminal())
    print(json.dumps(answer) if options.json else _text(answer, scores))
    return 0 if answer["ok"] else 1


def _run(options: argparse.Namespace, work: Path, progress: Progress) -> tuple[dict[str, Any], list[str]]:
    """The answer in JSON, and the scores in words."""
    precision: Precision = options.precision
    made = make_onnx(
        options.model,
        card=options.card,
        data=options.data,
        wishes=wishes_of(options, int8=precision == "int8"),
        work=work,
        progress=progress,
    )
    onnx = {name: made.dressed(name) for name in made.contents}
    card = made.cards[precision]
    name = json.loads(card).get("name") or Path(options.model).stem
    files = package_files(name, card, onnx, check_files(made.golden), made.model.onnx.opset)
    tried = try_build(files, precision, work=work / "engine", progress=progress)
    if tried is None or tried.ok:
        write_folder(options.output, files)
    answer = {
        "schema": SCHEMA,
        "ok": tried is None or tried.ok,
        "path": str(options.output),
        "files": sorted(files),
        "precision": precision,
        "opset": made.model.onnx.opset,
        "scores": scores_json(made.evaluations),
        "trtexec": None if tried is None else {"ok": tried.ok, "output": tried.output},
        "notes": [*made.notes, *([MEASURE] if precision == "int8" else []), *_untested(tried)],
    }
    return answer, score_lines(made.evaluations)


def _untested(tried: Tried | None) -> list[str]:
    return [UNTESTED] if tried is None else ["built and checked on this machine's GPU; build it anew on the Jetson"]


def _text(answer: dict[str, Any], scores: Sequence[str]) -> str:
    tried = answer["trtexec"]
    if answer["ok"]:
        lines = [f"wrote {answer['path']}: {', '.join(answer['files'])}"]
        lines.append(f"  on the Jetson: sh build_engine.sh {answer['precision']}")
    else:
        lines = [
            f"nothing was written: the engine that trtexec built of {answer['path']} is not right, or none was built"
        ]
    lines += [f"  {line}" for line in scores]
    if tried is not None:
        lines += [f"  trtexec here: {line}" for line in tried["output"].splitlines()]
    return "\n".join([*lines, *(f"  note: {note}" for note in answer["notes"])])


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("tensorrt", "Make a folder from which a Jetson builds its TensorRT engine and checks it.")
    add_model(arguments, trained=True)
    add_card(arguments)
    add_data(arguments, required=False)
    arguments.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="the folder to make")
    arguments.add_argument(
        "--precision", choices=get_args(Precision), default="fp16", help="int8 needs --data (default fp16)"
    )
    add_onnx_options(arguments)
    add_identity(arguments)
    add_json(arguments)
    return arguments
