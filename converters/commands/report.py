"""``edge-convert report``: one HTML file about a .tflite, with pictures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from converters.commands.common import add_card, add_data, add_json, add_model, add_output, parser, share, terminal
from converters.files import check_output

SCHEMA = "edge-agent/convert-report/1"


def main(argv: Sequence[str]) -> int:
    arguments = parser("report", "One HTML file about a .tflite: how good it is, what was lost, where it runs.")
    add_model(arguments, trained=False)
    add_card(arguments)
    add_data(arguments, required=False)
    arguments.add_argument(
        "--source", metavar="TRAINED", help="what it was made from, of any kind: shows what was lost, and where"
    )
    arguments.add_argument("--max-drop", type=share, metavar="DROP", help="judge the loss by this bound, such as 0.01")
    add_output(arguments, "the HTML file to write")
    add_json(arguments)
    options = arguments.parse_args(argv)
    check_output(options.output)
    from converters.report.gather import report_content
    from converters.report.page import write_report

    with tempfile.TemporaryDirectory(prefix="edge-convert-") as work:
        content = report_content(
            Path(options.model),
            work=Path(work),
            data=options.data,
            source=options.source,
            card=options.card,
            limit=options.limit,
            bound=options.max_drop,
            progress=terminal(),
        )
        written = write_report(content, options.output)
    if options.json:
        answer = {"schema": SCHEMA, "path": str(written.path), "bytes": written.bytes, "sha256": written.sha256}
        print(json.dumps(answer))
    else:
        print(f"wrote {written.path}, {written.bytes / 1000:.0f} kB")
    return 0
