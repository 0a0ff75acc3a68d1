#!/usr/bin/env python3
"""Compare a TensorRT engine, or the ONNX file it is made of, with the golden samples in this folder.

``--engine FILE --trtexec PROGRAM`` runs the engine that was built, by trtexec itself. ``--provider NAME`` runs the ONNX
file by ONNX Runtime, for example with TensorrtExecutionProvider. Exit code 0: the same, 1: not, 2: can't be run.
Python 3.8 or later and numpy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict  # noqa: UP035  # Python 3.8 of JetPack 5

import numpy as np

FOLDER = Path(__file__).resolve().parent
Arrays = Dict[str, Any]  # noqa: UP006
LAST_LINES = 15


class CannotRunError(Exception):
    """Something that the check needs is not there."""


def trtexec_runner(trtexec: str, engine: Path) -> Callable[[Arrays], Arrays]:
    """Runs one sample: inputs as raw float32 files, outputs as the JSON that trtexec writes."""

    def run(inputs: Arrays) -> Arrays:
        with tempfile.TemporaryDirectory() as name:
            folder, given = Path(name), []
            for number, (tensor, values) in enumerate(inputs.items()):
                file = folder / f"{number}.bin"
                file.write_bytes(np.ascontiguousarray(values, np.float32).tobytes())
                if set(tensor) & set(",'"):
                    raise CannotRunError(f"input {tensor!r}: trtexec can't be given a name with a comma or a quote")
                # with a colon in it, a name goes between quotation marks
                given.append(f"'{tensor}':{file}" if ":" in tensor else f"{tensor}:{file}")
            answer = folder / "outputs.json"
            command = [trtexec, f"--loadEngine={engine}", f"--loadInputs={','.join(given)}", f"--exportOutput={answer}"]
            # once is enough: this is no benchmark
            command += ["--iterations=1", "--duration=0", "--warmUp=0", "--avgRuns=1"]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if done.returncode or not answer.is_file():
                said = done.stdout.decode(errors="replace").splitlines()[-LAST_LINES:]
                raise CannotRunError("\n".join([f"{trtexec} ended with exit code {done.returncode}:", *said]))
            return {entry["name"]: np.array(entry["values"]) for entry in json.loads(answer.read_text())}

    return run


def onnxruntime_runner(provider: str, onnx: Path) -> Callable[[Arrays], Arrays]:
    """Runs one sample by ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError as error:
        raise CannotRunError(f"--provider needs ONNX Runtime: {error}") from None
    if provider not in onnxruntime.get_available_providers():
        have = ", ".join(onnxruntime.get_available_providers())
        raise CannotRunError(f"this ONNX Runtime has no {provider}, it has {have}")
    session = onnxruntime.InferenceSession(str(onnx), providers=[provider])
    if provider not in session.get_providers():  # it takes another one without an error
        raise CannotRunError(f"{provider} could not be used; ONNX Runtime took {', '.join(session.get_providers())}")
    names = [entry.name for entry in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, inputs)))  # noqa: B905  # Python 3.8 has no strict

    return run


def compare(rules: Arrays, golden: Arrays, precision: str, run: Callable[[Arrays], Arrays]) -> bool:
    """Run every sample, print a line for each output; whether all of them are right."""
    inputs = {name[len("input/") :]: rows for name, rows in golden.items() if name.startswith("input/")}
    count = len(next(iter(inputs.values())))
    answers = [run({name: rows[row : row + 1] for name, rows in inputs.items()}) for row in range(count)]
    good = True
    for name, rule in rules["outputs"].items():
        expected = golden[f"{precision}/{name}"].reshape(count, -1)
        missing = [row for row, answer in enumerate(answers) if name not in answer]
        sizes = {answer[name].size for answer in answers if name in answer} | {expected.shape[1]}
        if missing or len(sizes) > 1:
            print(f"{name}: WRONG, the engine has no such output of {expected.shape[1]} values")
            good = False
            continue
        found = np.stack([answer[name].reshape(-1) for answer in answers]).astype(np.float64)
        worst = float(np.abs(found - expected).max())
        same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
        right = worst <= rule["tolerance"] and (same == count or not rule["argmax"])  # nan is not right either
        classes = f", the same class on {same} of {count}" if rule["argmax"] else ""
        print(
            f"{name}: {'right' if right else 'WRONG'}, off by {worst:.4g} at most ({rule['tolerance']:.4g} allowed)"
            f" on {count} samples{classes}"
        )
        good = good and right
    return good


def main() -> int:
    arguments = argparse.ArgumentParser(description="Compare an engine with the golden samples in this folder.")
    arguments.add_argument("--precision", required=True, help="fp16 or int8: which expected outputs")
    arguments.add_argument("--engine", type=Path, help="the engine to check")
    arguments.add_argument("--trtexec", default="trtexec", help="the program that runs it")
    arguments.add_argument("--provider", help="run the ONNX file with this provider of ONNX Runtime instead")
    options = arguments.parse_args()
    rules = json.loads((FOLDER / "check.json").read_text())["precisions"]
    if options.precision not in rules:
        print(f"check_engine: this folder has {', '.join(rules)}, not {options.precision}", file=sys.stderr)
        return 2
    rule = rules[options.precision]
    if (options.engine is None) == (options.provider is None):
        arguments.error("give --engine or --provider")
    try:
        if options.engine:
            run = trtexec_runner(options.trtexec, options.engine.resolve())
        else:
            run = onnxruntime_runner(options.provider, FOLDER / rule["onnx"])
        with np.load(FOLDER / "golden.npz") as archive:
            golden = {name: archive[name] for name in archive.files}
        return 0 if compare(rule, golden, options.precision, run) else 1
    except (CannotRunError, OSError) as error:
        print(f"check_engine: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
