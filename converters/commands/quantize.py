"""``edge-convert quantize``: one scheme, no search. What it costs is measured where there are rows to measure on."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from converters.commands.common import (
    add_card,
    add_data,
    add_identity,
    add_json,
    add_model,
    add_output,
    add_signature,
    parser,
    positive,
    terminal,
)
from converters.dressing import finish
from converters.files import check_output, write_whole
from converters.quantization.calibration import METHODS
from converters.records import Quantized, Scheme
from converters.steps import CALIBRATION_SAMPLES, Io, Judged, judged, quantized
from converters.workbench import Workbench, open_workbench

SCHEMA = "edge-agent/convert-quantize/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    check_output(options.output)
    progress = terminal()
    with tempfile.TemporaryDirectory() as work:
        bench = open_workbench(options.model, work=Path(work), card=options.card, data=options.data, progress=progress)
        result = quantized(
            bench,
            options.scheme,
            samples=options.samples,
            method=options.calibration,
            keep_float=options.keep_float,
            io=options.io,
        )
        content = finish(bench, result, name=options.name, version=options.model_version)
        scores = _scores(bench, content, options.limit) if bench.dataset is not None else None
        written = write_whole(options.output, content)
    answer = {
        "schema": SCHEMA,
        "ok": True,
        "path": str(written.path),
        "sha256": written.sha256,
        "bytes": written.bytes,
        "scheme": result.scheme,
        "float_ops": result.float_ops,
        "minimum_runtime": result.minimum_runtime,
        "notes": list(result.notes),
    }
    if scores:
        before, after = scores
        answer |= {"reference_score": before.score, "score": after.score, "drop": before.score - after.score}
    print(json.dumps(answer) if options.json else _text(answer, result))
    return 0


def _scores(bench: Workbench, content: bytes, limit: int | None) -> tuple[Judged, Judged]:
    rows = bench.rows("test", limit)
    before = judged(bench, bench.source.content, rows)
    return before, judged(bench, content, rows, reference=before.recorded)


def _text(answer: dict[str, object], result: Quantized) -> str:
    lines = [f"wrote {answer['path']}, {answer['bytes']} bytes, {result.scheme}: {result.method}"]
    if result.float_ops:
        lines.append(f"  {len(result.float_ops)} ops in float:")
        lines += [f"    {name}: {reason}" for name, reason in result.float_ops.items()]
    if result.minimum_runtime:
        lines.append(f"  runs on TFLite or LiteRT {result.minimum_runtime} and later")
    lines += [f"  note: {note}" for note in result.notes]
    if "score" in answer:
        lines.append(
            f"  score {answer['score']:.4f}, float {answer['reference_score']:.4f}: {answer['drop']:+.4f} lost"
        )
    return "\n".join(lines)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("quantize", "Quantise with one scheme and write the file with its card.")
    add_model(arguments, trained=True)
    add_signature(arguments)
    add_card(arguments)
    add_data(arguments, required=False)
    add_output(arguments, "the .tflite to write")
    arguments.add_argument("--scheme", choices=get_args(Scheme), required=True, help="what becomes of the numbers")
    arguments.add_argument(
        "--samples", type=positive, default=CALIBRATION_SAMPLES, metavar="N", help="calibration rows (default 300)"
    )
    arguments.add_argument("--calibration", choices=METHODS, default="min-max", help="how ranges are measured")
    arguments.add_argument(
        "--keep-float", action="append", default=[], metavar="NAME", help="an op to keep in float, by its output tensor"
    )
    arguments.add_argument("--io", choices=get_args(Io), default="int8", help="what an int8 model takes and gives")
    add_identity(arguments)
    add_json(arguments)
    return arguments
