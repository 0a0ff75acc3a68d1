"""A model named on the command line: its options, and the request that they make. Shared by predict and bench."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from edge_agent.config.convert import parse_toml
from edge_agent.config.schema import ModelConfig
from edge_agent.errors import ConfigError
from edge_agent.io.state_directory import cache_directory
from edge_agent.loading import ModelRequest

TASKS = ("classification", "detection", "regression", "anomaly")


def add_model(arguments: argparse.ArgumentParser) -> None:
    """MODEL and what says how to run it."""
    arguments.add_argument("model", metavar="MODEL", help="a .tflite or .onnx file")
    arguments.add_argument("--labels", metavar="FILE", help="one label a line")
    arguments.add_argument(
        "--card", type=Path, metavar="FILE", help="card (TOML or JSON) for what the model does not say"
    )
    arguments.add_argument("--task", choices=TASKS, help="what the model's only output means")
    arguments.add_argument(
        "--delegate", action="append", metavar="NAME", help="back-ends in order (default: what needs no accelerator)"
    )
    cores = os.cpu_count() or 1
    arguments.add_argument("--threads", type=_threads, default=max(1, min(4, cores - 1)), help="of the interpreter")


def _threads(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1 to 64")
    return int(text)


def model_argument(options: argparse.Namespace) -> ModelRequest:
    """The request that ``load_model`` takes. Raises ConfigError."""
    card = _card(options.card)
    if options.labels:
        card["labels"] = str(Path(options.labels).absolute())
    if options.task:
        card["task"] = options.task
    return ModelRequest(
        name=Path(options.model).stem,
        config=ModelConfig(path=options.model, card=card or None),
        folder=Path(),
        order=options.delegate or (),
        threads=options.threads,
        external={},
        where=f"--card {options.card}" if options.card else "--card FILE, --task or --labels",
        cache_dir=cache_directory(),
    )


def _card(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--card {path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--card {path}: not UTF-8 text") from None
    if path.suffix != ".json":
        return parse_toml(text, str(path))
    try:
        card = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--card {path}: not JSON: {error}") from None
    if not isinstance(card, dict):
        raise ConfigError(f"--card {path}: expected an object with keys such as task, inputs and outputs")
    return card
