"""The demo of models over the air: while the device runs, a good model is pushed to it and committed, then two bad
ones. The first is turned away before it runs, the second while it runs; nothing else is lost.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo import FLEET, Child, Demo
from ota_models import good, with_a_logarithm, with_misplaced_names

TRIAL = ("--trial", "4s")
STEPS = (
    ("a new model", "1.2.0", good, TRIAL),
    (
        "its class names in the wrong order, beside the live model first",
        "1.3.0",
        with_misplaced_names,
        ("--shadow", "4s", "--agreement", "0.8", *TRIAL),
    ),
    ("one that is wrong for small readings", "1.4.0", with_a_logarithm, TRIAL),
)
PREDICTION_EVERY_S = 1.0  # the lines of ten a second would hide the rollout's
REST_S = 2.0  # between what is shown


class OtaDemo(Demo):
    """Publishes with ``edge-fleet push``; the device reads the repository in pieces over its broker."""

    _line_s = 0.0
    _version = ""
    _printed = 0  # bytes of the push's output

    def __init__(self, mosquitto: str, folder: Path, lasts_s: float) -> None:
        super().__init__(mosquitto, folder, lasts_s)
        self.source = "mqtt:"

    def _watch(self, subscriber: Any) -> None:
        self._await_prediction(subscriber)
        for title, version, make, options in STEPS:
            if not self.stopping:
                model = self.folder / f"conveyor-{version}.tflite"
                model.write_bytes(make(version))
                self._say(f"\n{title}: edge-fleet push {model.name} --to device:demo {' '.join(options)}")
                self._push(subscriber, model, options)
                self._rest(subscriber)

    def _await_prediction(self, subscriber: Any) -> None:
        while not self.stopping and self.seen.first_s is None:
            self._poll(subscriber)
            self._daemon().check()
        self._rest(subscriber)

    def _push(self, subscriber: Any, model: Path, options: Sequence[str]) -> None:
        """Until it has ended, its lines among the others."""
        command = [*FLEET, "push", str(model), *options, *self.push_options]
        self._printed = 0
        push = Child("edge-fleet push", command, self.folder / f"{model.stem}.log")
        try:
            while not self.stopping and push.process.poll() is None:
                self._poll(subscriber)
                self._daemon().check()
                self._show(push)
        finally:
            push.stop()
        self._show(push)

    def _show(self, push: Child) -> None:
        whole = push.log.read_bytes()
        end = whole.rfind(b"\n") + 1
        for line in whole[self._printed : end].decode(errors="replace").splitlines():
            print(f"    {line}", flush=True)
        self._printed = end

    def _rest(self, subscriber: Any) -> None:
        end_s = time.monotonic() + REST_S
        while not self.stopping and time.monotonic() < end_s:
            self._poll(subscriber)

    def _show_prediction(self, prediction: dict[str, Any]) -> None:
        version = prediction["model"]["version"]
        if version != self._version:
            self._version = version
            self._say(f"the predictions are of version {version}")
        if time.monotonic() - self._line_s >= PREDICTION_EVERY_S:
            self._line_s = time.monotonic()
            super()._show_prediction(prediction)

    def _daemon(self) -> Child:
        assert self.daemon is not None  # started before anything is watched
        return self.daemon
