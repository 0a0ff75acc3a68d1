"""A stand-in for NVIDIA's trtexec, for the plumbing around it: the same command line and files, no GPU.

An "engine" is the ONNX file with a mark before it. Running one looks the inputs up among the golden samples in the
working folder and answers what they expect; with STANDIN_ONNX=1 ONNX Runtime computes it on the CPU instead.
STANDIN_OFF=X: every value is off by X; STANDIN_FAILS: words to die with; STANDIN_NEW: no --fp16 any more. Each command
line is added to the file STANDIN_LOG.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

MARK = b"ENGINE"
KNOWN = (
    *("onnx", "saveEngine", "fp16", "int8", "timingCacheFile"),
    *("loadEngine", "loadInputs", "exportOutput", "iterations", "duration", "warmUp", "avgRuns"),
)


def main() -> None:
    if sys.argv[1:] == ["--help"]:
        print("  --int8" if "STANDIN_NEW" in os.environ else "  --fp16   Enable fp16\n  --int8")
        sys.exit(1)  # as some versions do
    options = dict(argument[2:].partition("=")[::2] for argument in sys.argv[1:])
    with Path(os.environ["STANDIN_LOG"]).open("a") as log:
        log.write(f"{json.dumps(options)}\n")
    if said := os.environ.get("STANDIN_FAILS"):
        sys.exit(said)
    if unknown := set(options) - set(KNOWN):
        sys.exit(f"unknown options {unknown}")
    if "onnx" in options:
        Path(options["saveEngine"]).write_bytes(MARK + Path(options["onnx"]).read_bytes())
        print(
            "[I] Throughput: 1234.5 qps\n[I] Latency: min = 0.7 ms, max = 1.1 ms, mean = 0.8 ms\n[I] H2D Latency: min"
        )
        return
    engine = Path(options["loadEngine"]).read_bytes()
    if not engine.startswith(MARK):
        sys.exit("not an engine")
    given = {}
    for entry in options["loadInputs"].split(","):
        name, _, file = entry.rpartition(":")
        given[name.strip("'")] = np.fromfile(file, np.float32)
    run = by_onnxruntime if os.environ.get("STANDIN_ONNX") else by_golden_samples
    off = float(os.environ.get("STANDIN_OFF", "0"))
    answer = [
        {"name": name, "dimensions": "x".join(map(str, values.shape)), "values": (values.reshape(-1) + off).tolist()}
        for name, values in run(engine[len(MARK) :], options["loadEngine"], given).items()
    ]
    Path(options["exportOutput"]).write_text(json.dumps(answer))


def by_golden_samples(onnx, engine, given):
    golden = np.load("golden.npz")
    precision = "int8" if "int8" in Path(engine).name else "fp16"
    for row in range(len(golden[f"input/{next(iter(given))}"])):
        if all((golden[f"input/{name}"][row].reshape(-1) == values).all() for name, values in given.items()):
            start = f"{precision}/"
            return {name[len(start) :]: golden[name][row] for name in golden.files if name.startswith(start)}
    sys.exit("these inputs are no golden sample")


def by_onnxruntime(onnx, engine, given):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    feed = {entry.name: given[entry.name].reshape(entry.shape) for entry in session.get_inputs()}
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


if __name__ == "__main__":
    main()
