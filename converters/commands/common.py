"""What several subcommands share: the parser with our exit code for bad usage, and the options that mean the same."""

from __future__ import annotations

import argparse
from pathlib import Path

from converters.progress import Progress, Terminal


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """An argument parser of the subcommand; argparse exits with 2 on bad usage, as the contract wants."""
    return argparse.ArgumentParser(prog=f"edge-convert {name}", description=description, allow_abbrev=False)


def add_model(arguments: argparse.ArgumentParser, *, trained: bool) -> None:
    """MODEL. ``trained``: any source kind; else a .tflite."""
    text = (
        "what was trained: .keras, .h5, a SavedModel folder, .onnx, .pt2, a float .tflite, or FILE.py:FUNCTION that "
        "returns a torch module"
        if trained
        else "a .tflite file"
    )
    arguments.add_argument("model", metavar="MODEL", help=text)


def add_signature(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--signature", metavar="NAME", help="which one of a SavedModel that has several")


def add_card(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--card", type=Path, metavar="FILE", help="card (TOML or JSON): what each tensor is for")


def add_data(
    arguments: argparse.ArgumentParser,
    *,
    required: bool,
    limit: str = "use at most N rows of the test set (default: all)",
) -> None:
    """--data, and --limit with ``limit`` as its help."""
    arguments.add_argument(
        "--data",
        required=required,
        metavar="DATASET",
        help="a folder with a CSV and images, .npz, .tfrecord, or FILE.py:FUNCTION that yields rows",
    )
    arguments.add_argument("--limit", type=positive, metavar="N", help=limit)


def add_output(arguments: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    arguments.add_argument("-o", "--output", type=Path, required=required, metavar="FILE", help=what)


def add_identity(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--name", metavar="NAME", help="the model's name in its card (default: the card's)")
    arguments.add_argument(
        "--model-version", metavar="VERSION", help="the model's version in its card (default: the card's)"
    )


def add_json(arguments: argparse.ArgumentParser) -> None:
    arguments.add_argument("--json", action="store_true", help="print JSON instead of text")


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number above 0")
    return int(text)


def share(text: str) -> float:
    """A number in 0..1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1, such as 0.01 for one point")
    return value


def terminal() -> Progress:
    """Where a command reports its progress: standard error."""
    return Terminal()
