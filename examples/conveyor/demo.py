"""Runs the example where it can be watched: a broker of its own, the daemon, and a stranger who subscribes.

script/demo prepares what this needs and starts it. However it ends, no process stays behind.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from place_config import placed
from subscriber import Seen, Subscriber, heading, prediction_line, summary

EXAMPLE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
FIRST_PREDICTION_S = 60.0  # loading a model on the slowest board takes some ten seconds
STOP_S = 15.0  # as long as the unit gives the daemon
SECONDS = {"s": 1, "m": 60, "h": 3600}
FLEET = [sys.executable, "-m", "fleet"]
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class DemoError(Exception):
    """The demo can't go on; the message is one line, ``log`` the file whose end says why."""

    def __init__(self, message: str, log: Path) -> None:
        super().__init__(message)
        self.log = log


class Child:
    """A process in a session of its own (Ctrl-C reaches only the demo, which stops things in order) that the kernel
    ends if the demo is killed."""

    def __init__(self, name: str, command: list[str], log: Path, **environment: str) -> None:
        self.name, self.log, self.stopped = name, log, False
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509  # no threads here
                env=os.environ | environment,
            )

    def check(self) -> None:
        """Raises DemoError when it has ended."""
        if (status := self.process.poll()) is not None:
            raise DemoError(f"{self.name} ended with status {status}", self.log)

    def stop(self, meanwhile: Callable[[], object] = lambda: time.sleep(0.05)) -> None:
        """SIGTERM, and SIGKILL to it and whatever it started if that is not enough. May be called twice."""
        if self.stopped:
            return
        self.stopped = True
        if self.process.poll() is None:
            self.process.terminate()
            deadline = time.monotonic() + STOP_S
            while self.process.poll() is None and time.monotonic() < deadline:
                meanwhile()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Demo:
    def __init__(self, mosquitto: str, folder: Path, lasts_s: float) -> None:
        self.mosquitto, self.folder, self.lasts_s = mosquitto, folder, lasts_s
        self.updates = folder / "updates"
        self.source = str(self.updates)
        self.port = 0
        self.stopping = False
        self.seen = Seen()
        self.broker: Child | None = None
        self.daemon: Child | None = None
        self.delegate = ""
        self.colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def run(self) -> int:
        """Returns the exit status: 0 after predictions were received. Raises DemoError."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            self.port = port = self._start_broker()
            text, device = self._configuration(port)
            config = self.folder / "agent.toml"
            config.write_text(text)
            subscriber = Subscriber(HOST, port, f"{device}/#")
            command = [sys.executable, "-m", "edge_agent", "run", "--config", str(config)]
            self.daemon = Child("the daemon", command, self.folder / "daemon.log", STATE_DIRECTORY=str(self.folder))
            self._say(f"broker on {HOST}:{port}; in another terminal: mosquitto_sub -p {port} -t 'edge-agent/#' -v")
            self._say(f"a new model: edge-fleet push MODEL.tflite --trial 10s {shlex.join(self.push_options)}")
            self._say("the daemon starts and loads the model ...")
            self._watch(subscriber)
            self._say("stopping")
            self.daemon.stop(meanwhile=lambda: self._poll(subscriber))
            self._see_out(subscriber)
        finally:
            for child in (self.daemon, self.broker):
                if child is not None:
                    child.stop()
        for line in summary(self.seen):
            print(line)
        if not self.seen.received:
            raise DemoError("no prediction was received", self.daemon.log)
        return 0

    @property
    def push_options(self) -> list[str]:
        return ["--to", "device:demo", "--mqtt-port", str(self.port), "--repository", str(self.updates)]

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def _start_broker(self) -> int:
        """Returns the port. A port that looked free may be taken a moment later: three tries."""
        config, log = self.folder / "mosquitto.conf", self.folder / "mosquitto.log"
        user = pwd.getpwuid(os.geteuid()).pw_name  # a change of user would lose the kernel's PDEATHSIG
        for _ in range(3):
            port = free_port()
            config.write_text(f"listener {port} {HOST}\nallow_anonymous true\npersistence false\nuser {user}\n")
            self.broker = Child("the broker", [self.mosquitto, "-c", str(config)], log)
            while self.broker.process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                    return port
                time.sleep(0.02)
        raise DemoError("the broker does not start", log)

    def _configuration(self, port: int) -> tuple[str, str]:
        """(agent.toml with this broker and absolute file names, the device's part of all topics)."""
        text = placed(
            (EXAMPLE / "agent.toml").read_text(), EXAMPLE, {"host": HOST, "port": port, "stats_interval": "2s"}
        )
        config = msgspec.toml.decode(text)
        return text + self._update(), f"{config['mqtt'].get('base_topic', 'edge-agent')}/{config['device']['id']}"

    def _update(self) -> str:
        """The section [update] of a repository that ``edge-fleet push`` may use. Raises DemoError."""
        log = self.folder / "init.log"
        if Child("edge-fleet init", [*FLEET, "init", str(self.updates)], log).process.wait() != 0:
            raise DemoError("edge-fleet init failed", log)
        root = self.updates / "metadata" / "1.root.json"
        return f"\n[update]\nrepository = {json.dumps(self.source)}\nroot = {json.dumps(str(root))}\n"

    def _watch(self, subscriber: Subscriber) -> None:
        """Until told to stop, or the time is over. Raises DemoError when a process dies."""
        started_s = time.monotonic()
        while not self.stopping:
            self._poll(subscriber)
            assert self.daemon is not None
            self.daemon.check()
            now_s = time.monotonic()
            if self.seen.first_s is None:
                if self.lasts_s < float("inf") and now_s - started_s > FIRST_PREDICTION_S:
                    return
            elif now_s - self.seen.first_s >= self.lasts_s:
                return

    def _see_out(self, subscriber: Subscriber) -> None:
        """The last statistics and "offline" arrive after the daemon has ended."""
        deadline = time.monotonic() + 2.0
        while self.seen.availability == "online" and time.monotonic() < deadline:
            self._poll(subscriber)

    def _poll(self, subscriber: Subscriber) -> None:
        try:
            arrived = subscriber.poll(0.1)
        except ConnectionError as error:
            assert self.broker is not None
            raise DemoError(f"the connection to the broker was lost: {error}", self.broker.log) from error
        for topic, payload in arrived:
            self._arrived(topic, payload)

    def _arrived(self, topic: str, payload: bytes) -> None:
        kind = topic.split("/")[-2:]
        if kind[-1] == "availability":
            self.seen.availability = payload.decode()
            self._say(f"the device is {self.seen.availability}")
        elif kind[-1] == "stats":
            self.seen.stats = json.loads(payload)
        elif kind[-1] == "event":
            event = json.loads(payload)
            self._say(f"{event['severity']}: {event['kind']}: {event['subject']}: {event['detail']}")
        elif kind[0] == "prediction":
            prediction = json.loads(payload)
            if prediction["delegate"] != self.delegate:
                self.delegate = prediction["delegate"]
                self._say(f"the model runs on {self.delegate}")
            if not self.seen.received:
                self._say(heading(prediction["readings"]))
            self.seen.prediction(prediction, time.monotonic())
            self._show_prediction(prediction)

    def _show_prediction(self, prediction: dict[str, Any]) -> None:
        print(self._line(prediction), flush=True)

    def _line(self, prediction: dict[str, Any]) -> str:
        line = prediction_line(prediction)
        flagged = any(reading["flags"] for reading in prediction["readings"].values())
        return f"\033[33m{line}\033[0m" if self.colour and flagged else line

    def _say(self, text: str) -> None:
        print(self._dim(text), flush=True)

    def _dim(self, text: str) -> str:
        return f"\033[2m{text}\033[0m" if self.colour else text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def duration(text: str) -> float:
    """ "20s", "2m" -> seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f'{text!r}: write a time with its unit, such as "20s" or "2m"')
    return float(match[1]) * SECONDS[match[2]]


def _kind(ota: bool) -> type[Demo]:
    if not ota:
        return Demo
    sys.modules["demo"] = sys.modules[__name__]  # run as a script, this module has another name
    from ota import OtaDemo

    return OtaDemo


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/demo", description="The example's predictions over MQTT.")
    parser.add_argument(
        "--for", dest="lasts_s", type=duration, default=float("inf"), metavar="20s", help="end by itself"
    )
    parser.add_argument("--ota", action="store_true", help="push a good model and a bad one to it while it runs")
    parser.add_argument("--mosquitto", default="mosquitto", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, default=Path.cwd() / ".demo", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.folder))
    try:
        status = _kind(arguments.ota)(arguments.mosquitto, folder, arguments.lasts_s).run()
    except DemoError as error:
        print(f"demo: {error}; the end of {error.log}:", file=sys.stderr)
        for line in error.log.read_text(errors="replace").splitlines()[-15:]:
            print(f"    {line}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the lines has gone: the pipe's way of Ctrl-C
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 0
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):  # an unpacked broker or the log of a failure may be in it
        arguments.folder.rmdir()
    return status


if __name__ == "__main__":
    sys.exit(main())
