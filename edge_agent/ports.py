"""What the inside asks of the outside. One Protocol each; the adapters live in ``io/``, the users in ``stages/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from edge_agent.records import Array, Grab, Pixels, RawSample, RuntimeInfo, TensorSpec


class Clock(Protocol):
    """The only source of time. Everything that needs the time gets this or the value itself."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds."""

    def wall_ns(self, mono_ns: int) -> int:
        """The wall clock's estimate (nanoseconds since 1970 UTC) at that monotonic time, as known now."""

    def synced(self) -> bool:
        """Whether the kernel says that the wall clock is synchronised."""


class Camera(Protocol):
    """A source of frames, used by one thread only: the thread that reads also closes (OpenCV's ``release`` from
    another thread during a read is a segmentation fault)."""

    live: bool  # False: a finite, rewindable source (file, folder)

    def open(self) -> None:
        """Open the source within its time-out. Raises DeviceError."""

    def grab(self) -> Grab | None:
        """Wait, within the time-out, for the next frame. None: the source has ended for good.

        Raises DeviceError when the source is lost or silent for longer than its time-out.
        """

    def retrieve(self) -> Pixels:
        """The pixels of the last grab: (height, width, 3) uint8 BGR, valid until the next grab.

        Raises FrameError when this one frame can't be decoded but the source goes on.
        """

    def close(self) -> None:
        """Release the source. Never raises; may be called twice."""


class Sensor(Protocol):
    """A live source of readings, used by one thread only."""

    def open(self) -> None:
        """Open the device. Raises DeviceError."""

    def read(self, timeout_s: float) -> RawSample | None:
        """The next sample, None when there was none within the time-out. Raises DeviceError when lost."""

    def close(self) -> None:
        """Release the device. Never raises; may be called twice."""


class Series(Protocol):
    """A sensor on media time: all of its rows are known beforehand. Times are nanoseconds of media time."""

    def until(self, media_ns: int) -> Sequence[RawSample]:
        """The rows not yet given out up to that time, and one row beyond it, so that a reader can interpolate.

        ``mono_ns`` of each row is its media time. Media time never goes backwards between calls.
        """


class Runtime(Protocol):
    """One interpreter with its tensors allocated; used by one thread only, never shared unlocked."""

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Copy each input in by name, run, and return copies of all outputs by name.

        An input that is not named keeps its last value. Raises ModelError when the run fails.
        """

    def close(self) -> None:
        """Release the interpreter."""


MessageHandler = Callable[[str, bytes, bool], None]
"""Called with topic, payload and the retained flag, on the network thread: it must hand over and return."""


class Broker(Protocol):
    """A connection to an MQTT broker that comes back by itself."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        """Hand one message to the network; returns a token that the ``acknowledged`` callback will name.

        Raises TransportError when not connected; nothing is kept in that case.
        """

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        """Ask for a topic filter now and after every reconnection. ``retain_as_published``: the handler's retained flag
        is the publisher's (MQTT 5), so that a retained message is known as one even when it arrives live."""

    def window(self) -> int:
        """How many QoS 1 messages may be unacknowledged at once; 0 while not connected."""
