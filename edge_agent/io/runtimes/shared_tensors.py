"""What a runtime and the process that hosts it have in common: where each tensor lies in their shared memory, and the
few words that go between them, as JSON."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.errors import ConfigError, DeviceError, DeviceLostError, EdgeAgentError, ModelError, RunError
from edge_agent.io.runtimes.backend import Build
from edge_agent.io.runtimes.litert import LibraryName
from edge_agent.records import Array, RuntimeInfo, TensorSpec

ALIGNMENT: Final = 64  # bytes, of a cache line
UNSIZED_BYTES: Final = 2**20  # for a tensor whose size only a run decides
WORDS_BYTES_MOST: Final = 256 * 1024  # of one message: a model has a handful of tensors

_KINDS: Final[dict[str, type[EdgeAgentError]]] = {
    kind.__name__: kind for kind in (ConfigError, DeviceError, DeviceLostError, ModelError, RunError)
}


class Place(Struct, frozen=True):
    """A tensor and its ``room`` bytes from ``offset`` on. A size of -1 in ``shape`` is decided by each run."""

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int
    offset: int
    room: int

    def view(self, memory: mmap.mmap, shape: tuple[int, ...] | None = None) -> Array:
        """Of the shared memory itself. Raises ValueError, TypeError where it does not lie within its room."""
        shape, dtype = self.shape if shape is None else shape, np.dtype(self.dtype)
        if min(shape, default=1) < 0 or prod(shape) * dtype.itemsize > self.room:
            raise ValueError(f"tensor {self.name!r} of shape {shape} does not fit into {self.room} bytes")
        view: Array = np.ndarray(shape, dtype, memory, self.offset)
        return view

    def spec(self) -> TensorSpec:
        """Raises TypeError for a type that numpy does not know."""
        return TensorSpec(self.name, self.index, self.shape, np.dtype(self.dtype), self.scale, self.zero_point)


class Request(Struct, frozen=True):
    """What the host is to run. ``entry``: "package.module:function", called as Backend.build is, with the build that is
    spelt out here; ``lifeline``, ``words`` and ``memory`` are descriptors."""

    entry: str
    lifeline: int
    words: int
    memory: int
    label: str
    threads: int
    library: LibraryName | None
    cache_dir: str | None

    @property
    def build(self) -> Build:
        return Build(self.label, self.threads, self.library, Path(self.cache_dir) if self.cache_dir else None)


class Ready(Struct, frozen=True, tag=True):
    """It has run once. ``size``: of the shared memory in bytes."""

    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]
    size: int
    info: RuntimeInfo


class Done(Struct, frozen=True, tag=True):
    """``shapes``: of the outputs that a run sizes, by name."""

    run: int
    shapes: dict[str, tuple[int, ...]] = {}


class Refused(Struct, frozen=True, tag=True):
    """An error of the families that a runtime may raise, by the name of its class. ``run`` 0: while it was built."""

    run: int
    kind: str
    message: str

    @classmethod
    def of(cls, run: int, error: EdgeAgentError) -> Refused:
        kind = next(kind for kind in type(error).__mro__ if kind.__name__ in _KINDS)
        return cls(run, kind.__name__, str(error))

    def error(self) -> EdgeAgentError:
        """Raises KeyError for a kind that there is not."""
        return _KINDS[self.kind](self.message)


def places(specs: Iterable[TensorSpec], offset: int) -> tuple[tuple[Place, ...], int]:
    """One behind the other from ``offset`` on, and the first free byte behind them."""
    found = []
    for spec in specs:
        sized = min(spec.shape, default=1) >= 0
        room = prod(spec.shape) * spec.dtype.itemsize if sized else UNSIZED_BYTES
        found.append(
            Place(spec.name, spec.index, spec.shape, spec.dtype.str, spec.scale, spec.zero_point, offset, room)
        )
        offset += aligned(room)
    return tuple(found), offset


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


encode = msgspec.json.encode
read_request = msgspec.json.Decoder(Request).decode
_answer = msgspec.json.Decoder(Ready | Done | Refused)


def read_answer(word: bytes) -> Ready | Done | Refused:
    """Raises ValueError for nonsense."""
    try:
        answer: Ready | Done | Refused = _answer.decode(word)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    return answer
