"""``edge-convert embed``: put files into a model, such as a drift reference, or take them out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from converters.commands.common import add_json, add_model, add_output, parser
from converters.embedding import embed
from converters.files import check_output, write_whole
from edge_agent.errors import ConfigError

SCHEMA = "edge-agent/convert-embed/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    if not options.file and not options.remove:
        raise ConfigError("nothing to do: name files to put in (--file NAME=PATH) or to take out (--remove NAME)")
    check_output(options.output)
    files = dict(_file(argument) for argument in options.file)
    written = write_whole(options.output, embed(Path(options.model), files, options.remove))
    if options.json:
        answer = {"schema": SCHEMA, "ok": True, "path": str(written.path), "sha256": written.sha256}
        print(json.dumps({**answer, "embedded": sorted(files), "removed": options.remove}))
    else:
        print(f"wrote {written.path}, {written.bytes} bytes, sha256 {written.sha256[:12]}")
    return 0


def _file(argument: str) -> tuple[str, bytes]:
    name, separator, path = argument.partition("=")
    if not separator or not name or not path:
        raise ConfigError(f"--file {argument}: expected NAME=PATH, such as --file edge-agent/drift.json=drift.json")
    try:
        return name, Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--file {argument}: {path} can't be read: {error.strerror}") from None


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("embed", "Put files into a model, or take them out; its own bytes stay as they are.")
    add_model(arguments, trained=False)
    arguments.add_argument("--file", action="append", default=[], metavar="NAME=PATH", help="put PATH in as NAME")
    arguments.add_argument("--remove", action="append", default=[], metavar="NAME", help="take NAME out")
    add_output(arguments, "the model to write; may be MODEL itself")
    add_json(arguments)
    return arguments
