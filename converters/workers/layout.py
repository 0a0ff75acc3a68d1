"""Pictures at the border of a model: the device gives (n, height, width, channels), torch and ONNX models want
(n, channels, height, width).

Which inputs are pictures is the card's to say; here only where their channels lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from converters.workers.protocol import Array, RefusedError

CHANNELS = (1, 3)  # what a card can describe: gray, rgb and bgr
TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)


def pictures_of(said: Sequence[str] | None, shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """The inputs that take pictures: those that the card says; where nothing is ``said`` a model's only input, as on
    the device, if a picture can go in."""
    if said is not None:
        return tuple(said)
    return tuple(shapes) if len(shapes) == 1 and all(len(shape) == 4 for shape in shapes.values()) else ()


def unsaid_note(said: Sequence[str] | None, shapes: Mapping[str, Sequence[int]], source: str) -> list[str]:
    """For a person: what no card means for a model of several inputs."""
    if said is not None or len(shapes) == 1 or not any(len(shape) == 4 for shape in shapes.values()):
        return []
    return [f"no card says which inputs are pictures: every input keeps the layout that it has in {source}"]


def channels_first(shapes: Mapping[str, Sequence[int]], pictures: Iterable[str]) -> tuple[str, ...]:
    """Those of the inputs named in ``pictures`` whose channels come before height and width.

    Raises RefusedError for a name that the model does not have and for a shape that holds no picture.
    """
    turned = []
    for name in pictures:
        if name not in shapes:
            raise RefusedError(
                f"the card has a picture for {name!r}, the model has no such input: it has {', '.join(shapes)}"
            )
        shape = tuple(shapes[name])
        if len(shape) != 4 or (shape[1] not in CHANNELS and shape[3] not in CHANNELS):
            raise RefusedError(
                f"input {name!r} has shape {shape}; a picture needs (1, channels, height, width) or "
                "(1, height, width, channels) with 1 or 3 channels"
            )
        if shape[1] in CHANNELS:
            turned.append(name)
    return tuple(turned)


def channels_last_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the same tensor with its channels last."""
    return tuple(shape[axis] for axis in TO_CHANNELS_LAST)


def as_source(batch: Mapping[str, Array], turned: Iterable[str]) -> dict[str, Array]:
    """Device tensors as the source takes them: those named in ``turned`` with the channels first."""
    names = set(turned)
    return {
        name: np.ascontiguousarray(array.transpose(TO_CHANNELS_FIRST)) if name in names else array
        for name, array in batch.items()
    }
