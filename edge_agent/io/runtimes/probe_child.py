"""The child of probe.py: ``python -m edge_agent.io.runtimes.probe_child REQUEST < MODEL``, one JSON line out.

It imports only what a trial takes, since the daemon waits for it. It may abort, crash or hang: its parent copes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from edge_agent.errors import ConfigError, DeviceError, EdgeAgentError, ModelError, NoDeviceError
from edge_agent.io.parent import end_with
from edge_agent.io.runtimes import backend, backends
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.external import Plugin, check
from edge_agent.io.runtimes.litert import LibraryName, one_line
from edge_agent.ports import Runtime

Fault = Literal["", "installation", "no device"]
_FAULTS: Final[dict[type[EdgeAgentError], Fault]] = {ConfigError: "installation", NoDeviceError: "no device"}


class ProbeResult(NamedTuple):
    """``reason`` is one line, empty when usable; ``library_file`` the file of an external delegate; ``fault``: what it
    is where it is not the model: what is installed here, or a device that is absent or another process's."""

    usable: bool
    reason: str = ""
    delegated: bool = False
    library_file: str = ""
    fault: Fault = ""


def attempt(
    model: bytes,
    delegate: str,
    threads: int,
    plugins: dict[str, Plugin],
    library: LibraryName | None = None,
    cache_dir: str | None = None,
) -> ProbeResult:
    """Load, allocate, invoke, look at the outputs, release."""
    chosen = backend(delegate, backends(plugins))
    try:
        file = check(chosen.plugin) if chosen.plugin else ""
        runtime = chosen.build(model, Build(delegate, threads, library, Path(cache_dir) if cache_dir else None))
        # an Edge TPU takes nothing of a plain model, and can still be asked whether it is there
        if chosen.plugin and "tflite" in chosen.forms and not runtime.info.delegated:
            raise DeviceError(f"{chosen.plugin.library} took no part of this model")
        try_out(runtime)
        runtime.close()  # a delegate that dies when it is destroyed would do so at the first change of model
    except EdgeAgentError as error:
        return ProbeResult(False, one_line(error), fault=_FAULTS.get(type(error), ""))
    return ProbeResult(True, "", runtime.info.delegated, file)


def try_out(runtime: Runtime) -> None:
    """Raises ModelError unless every float output is finite on zeros, or on ones (a model may divide by its input)."""
    ones = {spec.name: np.ones(spec.shape, spec.dtype) for spec in runtime.inputs}
    wild: list[str] = []
    for tensors in ({}, ones):  # a new runtime's inputs are zeros
        outputs = runtime.invoke(tensors)
        wild = [name for name, value in outputs.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if not wild:
            return
    raise ModelError(f"output {wild[0]!r} is not finite, neither on zeros nor on ones")


def main() -> None:
    """Answers on the standard output that it was given; what a library prints there goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    request: dict[str, Any] = json.loads(sys.argv[1])
    end_with(request.pop("parent"))
    request["plugins"] = {name: Plugin(*fields) for name, fields in request["plugins"].items()}
    result = attempt(sys.stdin.buffer.read(), **request)
    os.write(answer, json.dumps(result._asdict()).encode())
    os._exit(0)  # the libraries' exit handlers have nothing to do with whether the back-end works


if __name__ == "__main__":
    main()
