"""One sample at a time from the daemon to a child: arrays in shared memory, and a line of JSON that says where each is.

Whoever writes does so only while the other waits, so that neither sees half a sample.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import IO

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.io.runtimes.shared_tensors import ALIGNMENT, UNSIZED_BYTES, aligned
from edge_agent.records import Array, TensorSpec

_LINE_BYTES_MOST = 32 * 1024  # an empty pipe takes that at once


class _Place(Struct, frozen=True, array_like=True):
    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class _Header(Struct, frozen=True):
    tensors: list[_Place]
    outputs: list[_Place]
    features: dict[str, float]


class SharedSample(Struct, frozen=True):
    """The live model's image tensors, features and raw outputs; the arrays are views of the shared memory."""

    tensors: dict[str, Array]
    features: dict[str, float]
    outputs: dict[str, Array]


def room_for(specs: Iterable[TensorSpec]) -> int:
    """Bytes of shared memory for one array of each."""
    sizes = [
        prod(spec.shape) * spec.dtype.itemsize if min(spec.shape, default=1) >= 0 else UNSIZED_BYTES for spec in specs
    ]
    return sum(aligned(size) for size in sizes) + ALIGNMENT


class SampleWriter:
    """Takes over the mapping and the writing end of the pipe."""

    def __init__(self, memory: mmap.mmap, pipe: int) -> None:
        os.set_blocking(pipe, False)
        self._memory = memory
        self._pipe = pipe

    def put(self, tensors: Mapping[str, Array], features: Mapping[str, float], outputs: Mapping[str, Array]) -> bool:
        """False where it does not fit, or nobody reads any more."""
        offset, header = 0, _Header([], [], {name: float(value) for name, value in features.items()})
        for places, arrays in ((header.tensors, tensors), (header.outputs, outputs)):
            for name, array in arrays.items():
                if offset + array.nbytes > len(self._memory):
                    return False
                np.ndarray(array.shape, array.dtype, self._memory, offset)[...] = array
                places.append(_Place(name, array.dtype.str, array.shape, offset))
                offset += aligned(array.nbytes)
        line = msgspec.json.encode(header) + b"\n"
        if len(line) > _LINE_BYTES_MOST:
            return False
        try:
            return os.write(self._pipe, line) == len(line)
        except OSError:  # the child is gone: whoever listens to it says so
            return False

    def close(self) -> None:
        os.close(self._pipe)
        self._memory.close()


def samples(memory: mmap.mmap, pipe: IO[bytes]) -> Iterator[SharedSample]:
    """Until the writer closes its end. Each is valid until the next is asked for."""
    for line in pipe:
        header = msgspec.json.decode(line, type=_Header)
        yield SharedSample(
            {place.name: _view(memory, place) for place in header.tensors},
            header.features,
            {place.name: _view(memory, place) for place in header.outputs},
        )


def _view(memory: mmap.mmap, place: _Place) -> Array:
    view: Array = np.ndarray(place.shape, np.dtype(place.dtype), memory, place.offset)
    return view
