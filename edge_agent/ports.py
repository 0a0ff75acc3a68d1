"""What the inside asks of the outside. One Protocol each; the adapters live in ``io/``, the users in ``stages/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edge_agent.monitoring import Held, Sample
from edge_agent.outgoing import Batch, Committed, Lane, Loaded, Opened, Refusal
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


class BrokerListener(Protocol):
    """Who hears of a connection. Every method is called on the network thread: it must hand over and return."""

    def connection(self, up: bool, detail: str) -> None:
        """Messages may be handed over from now on, or no longer."""

    def acknowledged(self, token: int, refusal: Refusal | None) -> None:
        """The broker has the message; or it does not take it, now or for good."""

    def reset(self) -> None:
        """The session began anew with nothing under way: what was handed over and not acknowledged is the caller's
        again, and its tokens mean nothing any more."""

    def fault(self, kind: str, detail: str) -> None:
        """Something that a person must mend, as an event's kind and detail: a client id used twice, for example."""


class Broker(Protocol):
    """A connection to an MQTT broker that comes back by itself."""

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, expiry_s: int | None) -> int:
        """Hand one message to the network; returns a token that the ``acknowledged`` callback will name.

        Raises TransportError when not connected, and RefusedError when the broker will never take it (larger than
        its maximum packet size); nothing is kept in either case.
        """

    def subscribe(self, topic: str, handler: MessageHandler, *, retain_as_published: bool = False) -> None:
        """Ask for a topic filter now and after every reconnection. ``retain_as_published``: the handler's retained flag
        is the publisher's (MQTT 5), so that a retained message is known as one even when it arrives live."""

    def window(self) -> int:
        """How many QoS 1 messages may be unacknowledged at once; 0 while not connected."""


class Source(Protocol):
    """Where a repository of models is read from: HTTP, chunks over MQTT, a folder. Nothing that it gives is trusted.

    ``path`` is relative to the repository, as "metadata/2.root.json" or "targets/models/hall/<hash>.2.1.0.tflite".
    Every call is bounded in time. Used by one thread; ``stop`` from any.
    """

    def read(self, path: str, most: int) -> bytes:
        """A small file, whole. Raises NotThereError, TransportError (unreachable, slow, over ``most`` bytes)."""

    def download(self, path: str, part: Path, length: int, progress: Callable[[int], None]) -> None:
        """Append to ``part`` from its present size up to ``length`` bytes, and put them on the disk (fsync, at least
        each MiB); ``progress`` gets the size that is on the disk. What was written stays for the next attempt.

        Raises NotThereError, TransportError (unreachable, slow, more or fewer bytes than ``length``, a server that
        resumes at another place), StorageError.
        """

    def stop(self) -> None:
        """Let the call under way, and every later one, raise TransportError soon."""

    def close(self) -> None:
        """Release connections. Never raises."""


class DriftStore(Protocol):
    """What was learnt of drift, by name. Used by one thread. Every method raises StorageError when the disk fails."""

    def load(self, name: str) -> bytes | None:
        """As it was saved last; None: never."""

    def save(self, name: str, content: bytes) -> None:
        """On the disk when it returns, whole or not at all."""

    def set_aside(self, name: str) -> str:
        """Out of the way, kept for a person to look at. Returns where it lies now."""


class SampleStore(Protocol):
    """Samples of all pipelines under one bound. Used by one thread. Every method raises StorageError when the disk
    fails."""

    set_aside: int  # damaged samples, since the start

    def held(self, pipeline: str) -> list[Held]:
        """What is kept of a pipeline, the oldest first. Damaged files are set aside before."""

    def put(self, sample: Sample, pixels: Pixels | None) -> list[str]:
        """Keep one. Returns the ids, of any pipeline, that had to go: the oldest, and its own where there is no room
        for it at all."""

    def get(self, name: str) -> Sample | None:
        """By its id. None: it is not kept (any more)."""

    def replace(self, sample: Sample) -> None:
        """The same sample with more known of it; its picture stays."""

    def remove(self, name: str) -> None:
        """One that may have gone already."""


class OutboxStore(Protocol):
    """Records that outlive the process, and the ledger. Used by one thread only. Every method raises StorageError when
    the disk is full, read-only or fails; nothing of the call has happened then, and it must be opened again. With
    ``damaged`` on the error the file itself can't be trusted any more: ``open`` sets it aside and begins a new one;
    with ``readable`` it is still open, and ``load`` works."""

    def open(self, boot_id: str) -> Opened:
        """Open or make the file, check it, begin the ledger's row of this run."""

    def commit(self, batch: Batch) -> Committed:
        """On the disk when it returns."""

    def load(self, lane: Lane, after: int, count_most: int, bytes_most: int) -> Loaded:
        """The next records of a lane with numbers above ``after``; at least one where there is one."""

    def close(self) -> None:
        """Never raises; may be called twice."""
