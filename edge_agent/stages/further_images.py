"""Pictures of further cameras for models with several image inputs: the newest ready tensor of each.

The pipeline's own camera sets the pace; a further camera contributes the frame nearest in time, within max_skew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from edge_agent.records import Array, Frame, Grab
from edge_agent.stages.engine import Engine


class Pictures:
    """Of one model. Two buffers for each tensor: one holds the newest picture, the other is filled meanwhile."""

    def __init__(self, engine: Engine, tensors: Sequence[str]) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._buffers = {tensor: [engine.images[tensor].slot() for _ in range(2)] for tensor in tensors}
        self._times: dict[str, int] = {}

    def complete(self) -> bool:
        """Whether every camera has delivered."""
        return len(self._times) == len(self._buffers)

    def at(self, frame_ns: int, max_skew_ns: int) -> dict[str, Array] | None:
        """Copies of the pictures for a frame of that time, by tensor; None where one is missing or too far away."""
        with self._lock:
            for tensor in self._buffers:
                taken_ns = self._times.get(tensor)
                if taken_ns is None or abs(taken_ns - frame_ns) > max_skew_ns:
                    return None
            return {tensor: pair[0].copy() for tensor, pair in self._buffers.items()}

    def put(self, tensor: str, frame: Frame) -> None:
        """From the further camera's thread."""
        pair = self._buffers[tensor]
        self._engine.prepare(frame.pixels, {tensor: pair[1]})
        with self._lock:
            pair.reverse()
            self._times[tensor] = frame.mono_ns


class FurtherImages:
    """Of one pipeline: hands each picture to every model that its frames may go to."""

    def __init__(
        self,
        pictures: Callable[[], Sequence[Pictures]],
        failed: Callable[[Exception], None],
        trial_failed: Callable[[Exception], None],
    ) -> None:
        """``pictures``: of the models in use, the live one's last. ``failed`` is told of a picture that could not be
        made ready for the live model, ``trial_failed`` of one for the model on trial."""
        self.failed = failed
        self._trial_failed = trial_failed
        self._pictures = pictures

    def put(self, tensor: str, frame: Frame) -> None:
        """From the further camera's thread."""
        *trials, live = self._pictures()
        for trial in trials:
            try:
                trial.put(tensor, frame)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001 - handed on: it is the trial's, and the live model goes on
                self._trial_failed(error)
        live.put(tensor, frame)


class FurtherConsumer:
    """Connects one further camera to one tensor. Implements ``capture.FrameConsumer``; every frame is wanted, and
    nothing is counted: only the pipeline's own camera makes samples."""

    def __init__(self, images: FurtherImages, tensor: str) -> None:
        self._images = images
        self._tensor = tensor

    def wants(self, grab: Grab) -> bool:
        return True

    def offer(self, frame: Frame) -> None:
        self._images.put(self._tensor, frame)

    def unreadable(self) -> None:
        """The picture before it stays the newest."""

    def ended(self) -> None:
        """The last picture stays until it is too old."""

    def skipped(self, count: int) -> None:
        """Only the newest would have counted."""

    def failed(self, error: Exception) -> None:
        """The picture before it stays the newest."""
        self._images.failed(error)
