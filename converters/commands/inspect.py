"""``edge-convert inspect``: what a .tflite says of itself, what it holds and where it would run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.commands.common import add_json, add_model, parser
from converters.files import check_output, write_whole
from converters.inspection import Inspection, inspect
from edge_agent.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    arguments = parser("inspect", "Show a .tflite: inputs, outputs, quantisation, ops, where they would run, metadata.")
    add_model(arguments, trained=False)
    arguments.add_argument("--layers", action="store_true", help="list every op, not only the largest")
    arguments.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the features of the drift reference into a PNG"
    )
    add_json(arguments)
    options = arguments.parse_args(argv)
    if options.plot is not None:
        check_output(options.plot)
    found = inspect(Path(options.model))
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


def _plot(found: Inspection, path: Path) -> None:
    facts = found.drift
    if facts is None or facts.error:
        why = facts.error if facts else "the model has no drift reference; `edge-convert baseline` puts one in"
        raise ConfigError(f"--plot {path}: {why}")
    from converters.report.distributions import distributions_png

    title = f"{found.card.name or Path(found.path).stem} {found.card.version}: {facts.rows:,} rows of its reference"
    write_whole(path, distributions_png(facts.features, title))
