"""``edge-convert inspect``: what a .tflite says of itself, what it holds and where it would run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.commands.common import add_json, add_model, parser
from converters.inspection import inspect


def main(argv: Sequence[str]) -> int:
    arguments = parser("inspect", "Show a .tflite: inputs, outputs, quantisation, ops, where they would run, metadata.")
    add_model(arguments, trained=False)
    arguments.add_argument("--layers", action="store_true", help="list every op, not only the largest")
    add_json(arguments)
    options = arguments.parse_args(argv)
    found = inspect(Path(options.model))
    if options.json:
        print(msgspec.json.encode(found).decode())
        return 0
    from converters.inspection_text import console, inspection_text

    console().print(inspection_text(found, layers=options.layers))
    return 0
