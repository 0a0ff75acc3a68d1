"""``edge-convert golden``: put golden samples into a model, or run those that it has on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from converters.commands.common import add_data, add_json, add_model, add_output, parser, terminal
from converters.datasets import open_dataset
from converters.device_model import ONNX_DELEGATE, load_device_model
from converters.dressing import redress
from converters.files import check_output, write_whole
from converters.golden import GoldenCheck, check_golden
from edge_agent.errors import ConfigError
from edge_agent.io.model_file import read_model

SCHEMA = "edge-agent/convert-golden/1"
DELEGATES = ("xnnpack", "cpu")


def main(argv: Sequence[str]) -> int:
    options = _arguments().parse_args(argv)
    path = Path(options.model)
    if options.data is None:
        if options.output is not None:
            raise ConfigError("-o needs rows to choose golden samples from: add --data DATASET")
        return _check(path, as_json=options.json)
    if options.output is None:
        raise ConfigError("name the file to write with -o FILE")
    check_output(options.output)
    model = load_device_model(path)
    dataset = open_dataset(options.data, model.card)
    content = redress(model, dataset=dataset, progress=terminal())
    written = write_whole(options.output, content)
    if options.json:
        answer = {"schema": SCHEMA, "ok": True, "path": str(written.path), "sha256": written.sha256}
        print(json.dumps(answer))
    else:
        print(f"wrote {written.path}, {written.bytes} bytes, sha256 {written.sha256[:12]}")
    return 0


def _check(path: Path, *, as_json: bool) -> int:
    file = read_model(path)
    delegates = (ONNX_DELEGATE,) if file.form == "onnx" else DELEGATES
    checks = [check_golden(file.content, path, delegate=delegate) for delegate in delegates]
    ok = all(check.ok for check in checks)
    if as_json:
        print(json.dumps({"schema": SCHEMA, "ok": ok, "checks": msgspec.to_builtins(checks)}))
    else:
        print("\n".join(_line(check) for check in checks))
    return 0 if ok else 1


def _line(check: GoldenCheck) -> str:
    verdict = "as stored" if check.ok else "NOT as stored"
    return (
        f"{check.delegate:<8} {verdict}: {check.samples} samples, at most {check.worst_lsb} steps off, "
        f"{check.changed} with another best class"
    )


def _arguments() -> argparse.ArgumentParser:
    arguments = parser("golden", "Without --data: run the golden samples of MODEL here. With it: choose new ones.")
    add_model(arguments, trained=False)
    add_data(arguments, required=False)
    add_output(arguments, "the model with golden samples", required=False)
    add_json(arguments)
    return arguments
