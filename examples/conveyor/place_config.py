"""Writes agent.toml for another folder: file names become absolute, another broker may be named; comments stay.

    place_config.py FROM TO [--files FOLDER] [--port PORT]

What comes out is parsed and compared with what was meant, so that a text that replaces too little or too much is
never written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

FILE_SOURCES = ("file:", "images:", "csv:")


def placed(text: str, files: Path, mqtt: dict[str, Any]) -> str:
    """The configuration with every relative file name under ``files`` and the given keys of ``[mqtt]``.

    Raises ValueError where the text is written in a way that these replacements do not meet.
    """
    meant = msgspec.toml.decode(text)
    for value in sorted(set(_file_names(meant))):
        text = text.replace(
            json.dumps(value, ensure_ascii=False), json.dumps(_absolute(value, files), ensure_ascii=False)
        )
    for key, value in mqtt.items():
        text = _with_key(text, key, value)
    if msgspec.toml.decode(text) != _meant(meant, files) | {"mqtt": meant.get("mqtt", {}) | mqtt}:
        raise ValueError("a file name or a key of [mqtt] is written in an unusual way: one key = value on each line")
    return text


def _with_key(text: str, key: str, value: Any) -> str:
    """``key = value`` in the section [mqtt], in place of the line that is there."""
    section = re.search(r"^\[mqtt\][^\n]*\n(?:(?!\[).*\n)*", text, re.MULTILINE)
    line = f"{key} = {json.dumps(value)}"
    if section is None:
        return f"{text}\n[mqtt]\n{line}\n"
    body, found = re.subn(rf"^{key}\s*=.*$", line, section[0], count=1, flags=re.MULTILINE)
    if not found:
        body = section[0].replace("\n", f"\n{line}\n", 1)
    return text[: section.start()] + body + text[section.end() :]


def _file_names(config: dict[str, Any]) -> list[str]:
    """Every string of the configuration that names a file relative to it."""
    found = [model["path"] for model in config.get("model", {}).values()]
    found += [source["source"] for kind in ("camera", "sensor") for source in config.get(kind, [])]
    found += [
        model["card"]["labels"] for model in config.get("model", {}).values() if "labels" in model.get("card", {})
    ]
    return [name for name in found if _absolute(name, Path("/")) != name]


def _absolute(value: str, files: Path) -> str:
    scheme = next((scheme for scheme in FILE_SOURCES if value.startswith(scheme)), "")
    if not scheme and re.match(r"[a-z0-9]+:", value):
        return value  # a device or a network source
    return scheme + str(files / value.removeprefix(scheme))


def _meant(config: dict[str, Any], files: Path) -> dict[str, Any]:
    names = set(_file_names(config))

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner) for inner in value]
        return _absolute(value, files) if isinstance(value, str) and value in names else value

    meant: dict[str, Any] = walk(config)
    return meant


def main() -> None:
    parser = argparse.ArgumentParser(description="Write agent.toml for another folder.")
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    parser.add_argument("--files", type=Path, help="where the files that it names are; default: beside FROM")
    parser.add_argument("--port", type=int, help="port of the broker")
    arguments = parser.parse_args()
    files = (arguments.files or arguments.source.parent).absolute()
    try:
        text = placed(arguments.source.read_text(), files, {"port": arguments.port} if arguments.port else {})
    except ValueError as error:
        sys.exit(f"{arguments.source}: {error}")
    arguments.target.write_text(text)


if __name__ == "__main__":
    main()
