"""Every route and every technique of the converters, measured: ``python -m benchmarks.converters``.

Trains the networks of this folder where they are not there yet, converts them, prints two tables as Markdown. --write
puts them into docs/converters.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from benchmarks.converters import routes, table, techniques
from benchmarks.converters.world import COUNTS
from converters.errors import EnvironmentMissingError
from converters.progress import Terminal
from edge_agent.errors import EdgeAgentError

KEPT = Path(__file__).resolve().parents[2] / ".demo" / "benchmarks"
QUICK_ROWS = 200


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    limit = QUICK_ROWS if options.quick else None
    progress = Terminal()
    options.folder.mkdir(parents=True, exist_ok=True)
    given = {"quick": options.quick, "limit": limit, "progress": progress}
    with tempfile.TemporaryDirectory(prefix="edge-convert-bench-") as work:
        if options.routes:
            rows = []
            for name in options.routes:
                progress.say(f"route: {name}")
                rows.append(routes.route(name, options.folder, Path(work), **given))
            _show("routes", routes.COLUMNS, rows, limit or COUNTS["test"], write=options.write)
        if options.techniques:
            try:
                rows = techniques.technique_rows(options.techniques, options.folder, Path(work), **given)
            except EnvironmentMissingError as error:
                rows = [[str(error), *[""] * (len(techniques.COLUMNS) - 1)]]
            _show("techniques", techniques.COLUMNS, rows, limit or COUNTS["test"], write=options.write)
    return 0


def _show(name: str, columns: Sequence[str], rows: Sequence[Sequence[str]], count: int, *, write: bool) -> None:
    text = f"{table.markdown(columns, rows)}\n\n{table.measured_on(count)}"
    print(f"\n{text}", flush=True)
    if write:
        table.write_between(name, text)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.converters", description=__doc__)
    every_route, every_technique = ",".join(routes.ROUTES), ",".join(techniques.TECHNIQUES)
    parser.add_argument("--routes", type=_of(routes.ROUTES), default=every_route, help=f"default: {every_route}")
    parser.add_argument(
        "--techniques", type=_of(techniques.TECHNIQUES), default=every_technique, help=f"default: {every_technique}"
    )
    parser.add_argument("--quick", action="store_true", help="little training, few rows: whether it works at all")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/converters.md")
    parser.add_argument("--folder", type=Path, default=KEPT, help="where trained networks are kept")
    options = parser.parse_args(argv)
    for chosen, every in ((options.routes, routes.ROUTES), (options.techniques, techniques.TECHNIQUES)):
        if options.write and (options.quick or (chosen and chosen != list(every))):
            parser.error("--write takes whole tables from a whole run: without --quick, all of a table or none of it")
    return options


def _of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Reads a list of known names, for argparse; "none" is an empty one."""

    def names(text: str) -> list[str]:
        chosen = [] if text == "none" else text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r}: there are {', '.join(known)}, or none")
        return chosen

    return names


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeAgentError as error:
        sys.exit(f"{error}")
