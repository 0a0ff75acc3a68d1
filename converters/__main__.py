"""The command ``edge-convert``, also ``python -m converters``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from edge_agent.command_line import run_program

COMMANDS = {
    "convert": "the whole way: from a trained model to one .tflite within a bound on the loss",
    "quantize": "one scheme: int8, dynamic, float16, mixed, 16x8",
    "qat": "fine-tune with quantisation in the loop",
    "prune": "remove weights or whole channels, fine-tune, measure (Keras)",
    "distill": "teach a smaller model, beside the same one trained without a teacher (Keras)",
    "evaluate": "accuracy, calibration, latency and memory through the device's own arithmetic",
    "compare": "two models side by side on the same rows",
    "report": "one HTML file with pictures",
    "inspect": "inputs, outputs, quantisation, ops, where they would run, size by layer",
    "card": "write, edit and validate the card",
    "golden": "put golden samples into a model, or check them on this machine",
    "baseline": "put in what the data looks like, for the device to notice drift",
    "embed": "put files into a model, or take them out",
    "edgetpu": "what the Edge TPU would take, and its compiler where it is installed",
    "onnx": "an ONNX file for the ONNX Runtime back-end (torch, ONNX)",
    "tensorrt": "an ONNX file and a script that builds and checks the engine on a Jetson",
    "setup": "make the environment for keras, torch or onnx",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 good, 1 a bad result, 2 usage, card, data or model that can't be used."""
    if argv is None:  # this process is the program
        # timeout, systemd and CI end programs so: the way out of Ctrl-C, which leaves no folder and no child behind
        signal.signal(signal.SIGTERM, _terminated)
    return run_program("edge-convert", "converters.commands", COMMANDS, argv, extra="convert")


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
