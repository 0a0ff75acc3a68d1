"""The process that hosts a model for in_child.py: ``python -m edge_agent.io.runtimes.child_host REQUEST < MODEL``.

Its standard output and error are one file in memory, which libraries may fill as they like. It may abort, crash or
hang: its parent copes. When the parent goes, in whatever way, this process goes with it.
"""

from __future__ import annotations

import importlib
import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from edge_agent.errors import EdgeAgentError, RunError
from edge_agent.io.parent import end_with_pipe
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.probe_child import try_out
from edge_agent.io.runtimes.shared_tensors import (
    WORDS_BYTES_MOST,
    Done,
    Ready,
    Refused,
    Request,
    encode,
    places,
    read_request,
)
from edge_agent.ports import Runtime
from edge_agent.records import Array

LOG_BYTES_MOST: Final = 64 * 1024


def said() -> str:
    """What libraries have printed in this process so far, as far as it is kept."""
    return os.pread(2, LOG_BYTES_MOST, 0).decode(errors="replace")


class Host:
    """A model that is run at the other side's word."""

    def __init__(self, runtime: Runtime, memory: int) -> None:
        """Sizes and maps that shared memory; every input is at real zero."""
        self._runtime = runtime
        inputs, used = places(runtime.inputs, 0)
        self._outputs, size = places(runtime.outputs, used)
        os.ftruncate(memory, max(size, 1))
        self._memory = mmap.mmap(memory, max(size, 1))
        self._inputs = {place.name: place.view(self._memory) for place in inputs}
        for place in inputs:
            self._inputs[place.name].fill(place.zero_point)
        self.ready = Ready(inputs, self._outputs, max(size, 1), runtime.info)

    def run(self, number: int) -> Done | Refused:
        try:
            outputs = self._runtime.invoke(self._inputs)
            return Done(number, self._hand_over(outputs))
        except EdgeAgentError as error:
            return Refused.of(number, error)

    def _hand_over(self, outputs: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
        shapes = {}
        for place in self._outputs:
            array = outputs[place.name]
            if array.shape != place.shape:
                shapes[place.name] = array.shape
            try:
                np.copyto(place.view(self._memory, array.shape), array)
            except ValueError as error:
                raise RunError(str(error)) from error
        return shapes


def serve(host: Host, words: socket.socket) -> None:
    """Until the other side closes its end."""
    os.ftruncate(2, 0)  # from now on its last words are those of a run
    words.send(encode(host.ready))
    while word := words.recv(WORDS_BYTES_MOST):
        words.send(encode(host.run(int(word))))
        if os.fstat(2).st_size > LOG_BYTES_MOST:
            os.ftruncate(2, 0)


def main() -> None:
    # whoever stops the service tells all of its processes, and this one is needed until its parent lets it go
    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, signal.SIG_IGN)
    request: Request = read_request(sys.argv[1])
    end_with_pipe(request.lifeline)
    words = socket.socket(fileno=request.words)
    try:
        runtime = _builder(request.entry)(sys.stdin.buffer.read(), request.build)
        try_out(runtime)  # what is made only by a run, as a GPU's shaders, is there before the first sample
        host = Host(runtime, request.memory)
    except EdgeAgentError as error:
        words.send(encode(Refused.of(0, error)))
        os._exit(0)
    serve(host, words)
    os._exit(0)  # without the libraries' exit handlers: there is nothing left to save


def _builder(entry: str) -> Callable[[bytes, Build], Runtime]:
    module, _, name = entry.partition(":")
    found: Callable[[bytes, Build], Runtime] = getattr(importlib.import_module(module), name)
    return found


if __name__ == "__main__":
    main()
