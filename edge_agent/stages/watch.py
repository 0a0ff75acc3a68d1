"""What the worker of drift gets to see of one pipeline: a tap at two places, never a gate.

The camera's thread looks at a few of the ready tensors, the publisher's thread hands over what became of them. Both
only append; what the worker does not take in time is given up and counted.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from edge_agent.config.schema import DriftConfig
from edge_agent.core.data_quality import CameraLook
from edge_agent.core.picture import PictureStatistics
from edge_agent.core.wire import Identity
from edge_agent.monitoring import Observation
from edge_agent.records import Array, Frame, Pixels, Prediction
from edge_agent.stages.engine import Engine
from edge_agent.stages.inference import Inference, Look

PERIOD_NS: Final = 500_000_000  # frames nearer to each other than that say nothing new
SEEN_MOST: Final = 64  # that wait for the worker: half a minute
PIXELS_MOST: Final = 8  # of them with their picture: a slow disk costs samples, not memory
PUBLISHED_MOST: Final = 8192


class Site(Struct, frozen=True):
    """What a pipeline's place has, whatever its model is. ``fps``: what the camera was asked for; ``live``: False for a
    file. ``look``: how camera and pipeline stand now."""

    name: str
    device: str
    boot_id: str
    config: DriftConfig
    fps: float | None
    live: bool
    look: Callable[[], CameraLook]


class Seen(Struct, frozen=True):
    """One watched inference of the live model. ``identity`` None: it was not published."""

    engine: Engine
    observation: Observation
    prediction: Prediction
    identity: Identity | None
    pixels: Pixels | None


class Published(Struct, frozen=True):
    """Any published prediction, for a label that may come."""

    identity: Identity
    prediction: Prediction
    outputs: Mapping[str, Mapping[str, object]]


class Waiting(Struct, frozen=True):
    """What has come since the last time. ``given_up``: how many of either kind the worker was too late for;
    ``failure``: the last one of the camera's thread, where there was one."""

    seen: list[Seen]
    published: list[Published]
    given_up: int
    failure: Exception | None = None


def seen(inference: Inference, prediction: Prediction, identity: Identity | None) -> Seen:
    """Of an inference that was looked at. ``identity`` None: the prediction is not published."""
    look = inference.look or Look(None, None)
    observation = Observation(
        mono_ns=inference.mono_ns,
        features=inference.sample.features,
        readings=inference.sample.readings,
        image=look.picture,
        outputs=inference.outputs,
        decoded=prediction.outputs,
        quality=prediction.quality,
    )
    return Seen(inference.route.engine, observation, prediction, identity, look.pixels)


class Watch:
    """``keep_pixels``: with a copy of the watched frames, which costs their size in memory for some seconds."""

    def __init__(self, keep_pixels: bool) -> None:
        self.hurry: Callable[[], None] | None = None  # the worker, where half of what may wait has come
        self._keep_pixels = keep_pixels
        self._next_ns: int | None = None
        self._statistics: tuple[Engine, str, PictureStatistics] | None = None
        self._lock = threading.Lock()
        self._seen: deque[Seen] = deque()
        self._published: deque[Published] = deque()
        self._given_up = 0
        self._failure: Exception | None = None

    # --- the camera's thread -------------------------------------------------------------------------------------

    def look(self, engine: Engine, tensors: Mapping[str, Array], frame: Frame) -> Look | None:
        """``tensors``: those of ``engine`` that the frame was made ready in. None: it is too soon, or failed: that
        is the worker's to tell, and costs no frame."""
        if self._next_ns is not None and self._next_ns - PERIOD_NS <= frame.mono_ns < self._next_ns:
            return None
        self._next_ns = frame.mono_ns + PERIOD_NS
        try:
            return Look(self._picture(engine, tensors), frame.pixels.copy() if self._keep_pixels else None)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the worker, which counts and tells it
            self._failed(error)
            return None

    def _failed(self, error: Exception) -> None:
        with self._lock:
            self._failure = error

    def _picture(self, engine: Engine, tensors: Mapping[str, Array]) -> tuple[float, ...] | None:
        if not engine.card.image_inputs or engine.card.image_inputs[0].tensor not in tensors:
            return None
        if self._statistics is None or self._statistics[0] is not engine:
            card = engine.card.image_inputs[0]
            spec = next(spec for spec in engine.runtime.inputs if spec.name == card.tensor)
            self._statistics = engine, card.tensor, PictureStatistics(spec, card)
        _, tensor, statistics = self._statistics
        return statistics.of(tensors[tensor])

    # --- the pipeline's thread -----------------------------------------------------------------------------------

    def complete(self, look: Look, engine: Engine, further: Mapping[str, Array]) -> Look:
        """The same look, with the statistics of the model's first picture where that is a further camera's: ``further``
        are the tensors that such cameras filled."""
        if look.picture is not None or not further:
            return look
        try:
            return replace(look, picture=self._picture(engine, further))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - handed to the worker, which counts and tells it
            self._failed(error)
            return look

    # --- the publisher's thread ----------------------------------------------------------------------------------

    def published(self, one: Published) -> None:
        with self._lock:
            self._published.append(one)
            if len(self._published) > PUBLISHED_MOST:
                self._published.popleft()
                self._given_up += 1

    def seen(self, one: Seen) -> None:
        with self._lock:
            late = sum(waiting.pixels is not None for waiting in self._seen) >= PIXELS_MOST
            self._seen.append(replace(one, pixels=None) if late else one)
            half_full = len(self._seen) == SEEN_MOST // 2
            if len(self._seen) > SEEN_MOST:
                self._seen.popleft()
                self._given_up += 1
        if half_full and self.hurry is not None:  # a file that is read as fast as it goes has many in a second
            self.hurry()

    # --- the worker's thread -------------------------------------------------------------------------------------

    def take(self) -> Waiting:
        with self._lock:
            taken = Waiting(list(self._seen), list(self._published), self._given_up, self._failure)
            self._seen.clear()
            self._published.clear()
            self._given_up, self._failure = 0, None
        return taken
