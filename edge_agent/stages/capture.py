"""One thread for each camera: open, read, offer each frame to the pipelines; reopen with backoff when it is lost.

The thread that reads is the thread that closes. A camera that fails never stops another one, and neither does a
pipeline that fails on a frame.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from edge_agent import limits
from edge_agent.core.backoff import Backoff
from edge_agent.errors import DeviceError, FrameError
from edge_agent.ports import Camera
from edge_agent.records import Event, Frame, Grab
from edge_agent.stages.worker import Services, Worker


class FrameConsumer(Protocol):
    """A pipeline, as its camera sees it."""

    def wants(self, grab: Grab) -> bool:
        """Asked for every frame, before its pixels are paid for. A refusal is counted by the consumer."""

    def offer(self, frame: Frame) -> None:
        """The frame, if it was wanted. May block where no frame may be lost."""

    def unreadable(self) -> None:
        """The frame was wanted and can't be decoded."""

    def ended(self) -> None:
        """No frame will follow."""

    def skipped(self, count: int) -> None:
        """The source itself gave up that many frames for a newer one."""

    def failed(self, error: Exception) -> None:
        """``wants`` or ``offer`` raised: the consumer counts and reports the frame that it lost by that."""


@contextmanager
def left_to(consumer: FrameConsumer) -> Iterator[None]:
    """A consumer's failure is its own: the camera and the other consumers go on."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - handed on: the consumer counts and reports it
        consumer.failed(error)


class CameraWorker(Worker):
    """Reads one camera for all the pipelines that use it."""

    def __init__(
        self,
        name: str,
        camera: Camera,
        consumers: Sequence[FrameConsumer],
        services: Services,
    ) -> None:
        """``camera`` is opened again after each loss: the same object, so that a file's media time goes on."""
        super().__init__(f"camera {name}", services)
        self.camera_name = name
        self.state = "opening"  # opening | streaming | lost | ended
        self.frames = self.failures = self.reopened = 0
        self._camera = camera
        self._consumers = consumers
        self._backoff = Backoff(limits.BACKOFF_FIRST_S, limits.BACKOFF_LAST_S)
        self._since_ns = 0  # streaming since
        self._note = ""  # as it was last said
        self._size: tuple[int, int] | None = None  # width and height of the last frame, in pixels

    def work(self) -> None:
        while not self.services.stopping.is_set():
            self.beat()
            try:
                self._camera.open()
                self._say_note()
                self._stream(self._camera)
                if not self.services.stopping.is_set():
                    self.state = "ended"
                    for consumer in self._consumers:
                        consumer.ended()
                    self.services.emit(
                        Event("camera_ended", "info", self.camera_name, f"the source ended after {self.frames} frames")
                    )
                return
            except DeviceError as error:
                self._lost(error)
            finally:
                self._camera.close()
            self.pause(self._backoff.next(random.random()))

    def recover(self) -> None:
        """The failure was reported as ``worker_failed``; frames that come again are ``camera_back``."""
        self.failures += 1
        self.state = "lost"

    def report(self) -> dict[str, object]:
        """The camera's part of ``stats``."""
        return {"state": self.state, "frames": self.frames, "failures": self.failures, "reopened": self.reopened}

    def _stream(self, camera: Camera) -> None:
        """Until the source ends or the process stops. Raises DeviceError when the camera is lost."""
        while not self.services.stopping.is_set():
            grab = camera.grab()
            self.beat()
            if grab is None:
                return
            if self.state != "streaming":
                self._streaming()
            if grab.skipped:
                self.frames += grab.skipped
                for consumer in self._consumers:
                    consumer.skipped(grab.skipped)
            seq, self.frames = self.frames, self.frames + 1
            wanted = self._wanting(grab)
            if wanted:
                self._hand_over(camera, grab, seq, wanted)

    def _wanting(self, grab: Grab) -> list[FrameConsumer]:
        wanted = []
        for consumer in self._consumers:
            with left_to(consumer):
                if consumer.wants(grab):
                    wanted.append(consumer)
        return wanted

    def _hand_over(self, camera: Camera, grab: Grab, seq: int, wanted: Sequence[FrameConsumer]) -> None:
        try:
            pixels = camera.retrieve()
        except Exception as error:
            for consumer in wanted:  # also when the camera itself fails here: the frame was counted, and is lost
                consumer.unreadable()
            if isinstance(error, FrameError):
                return
            raise
        self._note_size(pixels.shape[1], pixels.shape[0])
        epoch_ns = getattr(camera, "media_epoch_ns", None)
        frame = Frame(
            camera=self.camera_name,
            seq=seq,
            mono_ns=grab.mono_ns,
            arrival_ns=grab.arrival_ns,
            time_source=grab.time_source,
            pixels=pixels,
            capture_ns=self.clock.monotonic_ns() - grab.arrival_ns,
            media_ns=None if epoch_ns is None else grab.mono_ns - epoch_ns,
        )
        with self.excused():
            for consumer in wanted:
                with left_to(consumer):
                    consumer.offer(frame)

    def _say_note(self) -> None:
        """Once, what the source gives instead of what the configuration wishes."""
        note = getattr(self._camera, "note", "")
        if note and note != self._note:
            self.services.emit(Event("camera_changed", "info", self.camera_name, note))
        self._note = note

    def _note_size(self, width: int, height: int) -> None:
        before, self._size = self._size, (width, height)
        pictures = not self._camera.live  # each of a folder has a size of its own
        if before is not None and before != self._size and not pictures:
            text = f"frames are {width}x{height} now, {before[0]}x{before[1]} before"
            self.services.emit(Event("camera_changed", "info", self.camera_name, text))

    def _streaming(self) -> None:
        if self.failures:
            self.reopened += 1
            self.services.emit(
                Event(
                    "camera_back",
                    "info",
                    self.camera_name,
                    f"frames again after {self.failures} failed attempts in all",
                )
            )
        self.state = "streaming"
        self._since_ns = self.clock.monotonic_ns()

    def _lost(self, error: DeviceError) -> None:
        self.failures += 1
        # One that comes for a frame and goes again is not back: it is tried less and less often.
        if self.state == "streaming" and self.clock.monotonic_ns() - self._since_ns > limits.BACKOFF_LAST_S * 1e9:
            self._backoff.reset()
        if self.state != "lost":  # one event for each loss, not for each attempt
            self.services.emit(Event("camera_lost", "warning", self.camera_name, str(error)))
        self.state = "lost"
