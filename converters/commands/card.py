"""``edge-convert card write | edit | validate``: the card of a model as a file, and in it."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from converters.card_file import card_builtins, card_toml, edited, read_card, read_labels
from converters.commands.common import add_card, add_json, add_model, add_output, add_signature, parser, terminal
from converters.device_model import DeviceModel
from converters.dressing import complete_card, redress
from converters.files import check_output, write_whole
from converters.new_card import new_card, template, with_measured_scaling
from converters.sources import load_source
from edge_agent.core.card_schema import Card
from edge_agent.core.model_card import checked_card
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model

SCHEMA = "edge-agent/convert-card/1"


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    answer: int = {"write": _write, "edit": _edit, "validate": _validate}[options.action](options)
    return answer


def _write(options: argparse.Namespace) -> int:
    if options.output is not None:
        check_output(options.output)
    text = _card_of(options)
    if options.output is None:
        print(text, end="")
        return 0
    written = write_whole(options.output, text.encode())
    print(f"wrote {written.path}")
    return 0


def _card_of(options: argparse.Namespace) -> str:
    said = options.image or options.features or options.tasks
    with tempfile.TemporaryDirectory() as work:
        content = _tflite(options, Path(work))
    if not said:
        try:
            return card_toml(_own_card(DeviceModel(content, path=Path(options.model))))
        except ConfigError:  # the file says too little of itself
            return template(content)
    labels = read_labels(options.labels) if options.labels else ()
    card = new_card(content, images=options.image, features=options.features, outputs=options.tasks, labels=labels)
    return card_toml(with_measured_scaling(card, content, options.data) if options.data else card)


def _tflite(options: argparse.Namespace, work: Path) -> bytes:
    """The bytes of a .tflite of any kind, or of the float one that a source becomes."""
    path = Path(options.model)
    if path.suffix == ".tflite":
        return read_model(path).content
    source = load_source(
        options.model, work=work, signature=options.signature, images=options.image, progress=terminal()
    )
    return source.content


def _edit(options: argparse.Namespace) -> int:
    check_output(options.output)
    path = Path(options.model)
    content = read_model(path).content
    if options.card:
        raw, where, folder = read_card(options.card)
        base = _own_card(DeviceModel(content, card=raw, path=path, where=where, folder=folder), raw)
    else:
        base = _own_card(DeviceModel(content, path=path))
    card = edited(base, options.set)
    model = DeviceModel(content, card=card_builtins(card), path=path, where="the edited card")
    written = write_whole(options.output, redress(model, said=card))
    if options.json:
        print(json.dumps({"schema": SCHEMA, "ok": True, "path": str(written.path), "sha256": written.sha256}))
    else:
        print(f"wrote {written.path}, {written.bytes} bytes, sha256 {written.sha256[:12]}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    path = Path(options.model)
    if path.suffix in (".toml", ".json"):
        raw, where, folder = read_card(path)
        if options.against is None:
            return _valid(options, [f"{path}: every key is known; name a model with --against to check its tensors"])
        model = DeviceModel(
            read_model(options.against).content, card=raw, path=options.against, where=where, folder=folder
        )
    else:
        raw, where, folder = read_card(options.card)
        model = DeviceModel(read_model(path).content, card=raw, path=path, where=where, folder=folder)
    return _valid(options, [*model.card.notes, f"{path}: the card fits the model's tensors"])


def _valid(options: argparse.Namespace, notes: list[str]) -> int:
    if options.json:
        print(json.dumps({"schema": SCHEMA, "ok": True, "notes": notes}))
    else:
        print("\n".join(notes))
    return 0


def _own_card(model: DeviceModel, laid_over: dict[str, Any] | None = None) -> Card:
    """What a model says of itself, with its provenance and golden rule; ``laid_over`` goes first."""
    raw = checked_card({**(model.file.card or {}), **(laid_over or {})}, model.file.path)
    return replace(complete_card(model.card, inline=True), golden=raw.golden, provenance=raw.provenance)


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("card", "Write, edit or validate a card.")
    actions = arguments.add_subparsers(dest="action", required=True, metavar="write|edit|validate")
    write = actions.add_parser("write", help="a card for MODEL as TOML: its own, or from what is said here")
    add_model(write, trained=True)
    add_signature(write)
    write.add_argument("--image", action="append", default=[], metavar="TENSOR", help="an input that takes a picture")
    write.add_argument(
        "--features", action="append", default=[], metavar="TENSOR=NAME[UNIT],…", help="an input of sensor values"
    )
    write.add_argument(
        "--output-task", dest="tasks", action="append", default=[], metavar="TENSOR=TASK", help="an output"
    )
    write.add_argument("--labels", type=Path, metavar="FILE", help="one label a line")
    write.add_argument("--data", metavar="DATASET", help="measure the features' scaling on its training rows")
    add_output(write, "the card to write (default: print it)", required=False)
    edit = actions.add_parser("edit", help="another card, or other values, in a .tflite")
    add_model(edit, trained=False)
    add_card(edit)
    edit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="such as version=1.2.0")
    add_output(edit, "the model to write; may be MODEL itself")
    add_json(edit)
    validate = actions.add_parser("validate", help="a card file, or a model with its card")
    validate.add_argument("model", metavar="FILE", help="card.toml, card.json or a .tflite")
    add_card(validate)
    validate.add_argument("--against", type=Path, metavar="MODEL", help="check a card file against this .tflite")
    add_json(validate)
    return arguments
