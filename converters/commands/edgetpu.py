"""``edge-convert edgetpu``: what the Edge TPU would run of a model, and the build for it where its compiler is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.commands.common import add_json, add_model, parser, terminal
from converters.edgetpu.compiler import find_compiler
from converters.edgetpu.report import EdgeTpuReport, edgetpu_report
from edge_agent.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    compiler = find_compiler(options.compiler)
    output = options.output if compiler else None
    report = edgetpu_report(Path(options.model), compiler=compiler, output=output, progress=terminal())
    _show(report, options)
    if options.output is not None and not report.written and not report.refused:
        raise ConfigError(f"{options.output} is not written: {report.no_compiler}; or name it with --compiler PATH")
    return 1 if report.refused else 0


def _show(report: EdgeTpuReport, options: argparse.Namespace) -> None:
    if options.json:
        print(msgspec.json.encode(report, enc_hook=str).decode())
        return
    from converters.edgetpu.report_text import report_text
    from converters.inspection_text import console

    console(sys.stdout).print(report_text(report))


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("edgetpu", "Report what the Edge TPU would run of a .tflite; compile it where the compiler is.")
    add_model(arguments, trained=False)
    arguments.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the compiled model, with the CPU build inside"
    )
    arguments.add_argument(
        "--compiler", metavar="PATH", help="Google's edgetpu_compiler (default: the one on the PATH)"
    )
    add_json(arguments)
    return arguments
