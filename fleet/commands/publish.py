"""``edge-fleet publish``: check a model as a device will, sign it and add it to the repository."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from edge_agent.io.model_file import read_model
from fleet.commands.common import parser
from fleet.commands.release_options import add_profiles
from fleet.commands.repository_options import add_repository, answer, opened
from fleet.releases import examine, identify, publish


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    model = read_model(options.model)
    name, version = identify(model, options.name, options.version)
    custom = {
        "profiles": tuple(options.profiles),
        "agent": options.agent,
        "p95_ms": options.p95_ms,
        "memory_mb": options.memory_mb,
    }
    # before the repository is locked: whoever must stop a rollout now does not wait for it
    evidence = {} if options.unchecked else examine(model, options.p95_ms, options.memory_mb)
    with opened(options) as repository:
        release, new = publish(repository, model, name, version, custom)
    found = ", ".join(f"{what} {value}" for what, value in evidence.items()) or "not checked"
    answer(
        options,
        f"{name}@{version} {'published' if new else 'was there already'}, {release.length} bytes, "
        f"sequence number {release.seq}\nchecked here: {found}\n"
        f"Next: edge-fleet rollout {options.repository} {name}@{version} --to device:NAME",
        name=name,
        version=version,
        target=release.target,
        sha256=release.sha256,
        seq=release.seq,
        new=new,
        evidence=evidence,
    )
    return 0


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value


def _arguments() -> argparse.ArgumentParser:
    arguments = parser(
        "publish",
        "Examine a model in a child process as a device will (card, golden samples, latency and memory against the "
        "budgets), sign it and add it. Devices take it only when a rollout names it.",
    )
    arguments.set_defaults(command="publish")
    add_repository(arguments)
    arguments.add_argument("model", type=Path, metavar="MODEL", help="a .tflite or .onnx file")
    arguments.add_argument("--name", help="NAME of [model.NAME] on the devices (default: the card's)")
    arguments.add_argument("--version", help="of these bytes for ever (default: the card's)")
    add_profiles(arguments)
    arguments.add_argument(
        "--agent", default="", type=_version, metavar="VERSION", help="least version of edge-agent, such as 1.2"
    )
    arguments.add_argument(
        "--p95-ms", "--p95", type=_positive, metavar="MS", help="budget of one run (default: card's)"
    )
    arguments.add_argument(
        "--memory-mb", "--memory", type=_positive, metavar="MB", help="budget that loading adds (default: card's)"
    )
    arguments.add_argument(
        "--unchecked",
        action="store_true",
        help="do not examine it here: for a model without card, whose devices have [model.NAME.card]",
    )
    return arguments


def _version(text: str) -> str:
    """For argparse: signed for good, so it has to be one."""
    if text and not re.fullmatch(r"\d+(\.\d+)*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers with dots, such as 1.2")
    return text
