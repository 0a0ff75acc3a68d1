"""A back-end for the process that hosts one: it adds one to its input, and goes wrong as its "model" says.

The model is a line of JSON: what to do while it is built, and in each run after the trial.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from edge_agent.errors import ConfigError, DeviceError, RunError
from edge_agent.records import RuntimeInfo, TensorSpec

SPEC = TensorSpec("x", 0, (2, 3), np.dtype("int8"), 0.5, -7)
LONG_S = 1000


def model(build: str = "", run: str = "", trial: str = "") -> bytes:
    return json.dumps({"build": build, "run": run, "trial": trial}).encode()


def build(content, wanted):
    return Hosted(json.loads(content), wanted)


class Hosted:
    def __init__(self, wishes, wanted):
        do(wishes["build"])
        self._wishes = wishes
        self._runs = 0
        self._x = np.full(SPEC.shape, SPEC.zero_point, SPEC.dtype)
        self.inputs = (SPEC,)
        self.outputs = (SPEC,)
        self.info = RuntimeInfo(wanted.label, "hosted 1.0", wanted.threads, delegated=True)

    def invoke(self, tensors):
        self._runs += 1
        do(self._wishes["trial"] if self._runs == 1 else self._wishes["run"])
        self._x = tensors.get("x", self._x)
        return {"x": self._x + np.int8(1)}

    def close(self):
        pass


def request():
    return json.loads(sys.argv[1])


def do(what: str) -> None:
    """One of the ways in which a library goes wrong; "" does nothing."""
    if what:
        WAYS[what]()


def fails(error):
    def fail():
        raise error

    return fail


def abort():
    os.write(2, b"F0000 00:00:1.5 7 kernel.cc:1] Check failed: a shader is lost\n*** Check failure stack trace: ***\n")
    os.write(2, b"    @     0x7f13b77a24bd  (unknown)\n")
    os.abort()


def abort_where_there_are_shaders():
    if list(Path(os.environ["MESA_SHADER_CACHE_DIR"]).iterdir()):
        os.abort()


def shrink():
    try:
        os.ftruncate(request()["memory"], 0)
    except PermissionError as error:
        raise RunError(f"refused: {error.strerror}") from error


def says(words: bytes):
    return lambda: os.write(request()["words"], words)


WAYS = {
    "abort": abort,
    "abort where there are shaders": abort_where_there_are_shaders,
    "exit": lambda: os._exit(3),
    # with Python's lock, as CompiledModel does
    "hang": lambda: os.write(2, b"hangs") and ctypes.PyDLL(None).sleep(LONG_S),
    "busy": lambda: ctypes.PyDLL(None).usleep(500_000),
    "stop": lambda: time.sleep(LONG_S),
    "refuse": fails(DeviceError("no device on the bus")),
    "not installed": fails(ConfigError("install it")),
    "fail": fails(RunError("the run failed: bad value")),
    "bug": fails(ZeroDivisionError("a bug")),
    "chatter": lambda: os.write(1, b"INFO: all is well\n" * 20_000),
    "nonsense": says(b"what?"),
    "old answer": says(b'{"type":"Done","run":1}'),
    "shrink": shrink,
}
