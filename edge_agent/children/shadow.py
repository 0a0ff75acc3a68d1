"""A candidate beside the live model, in a child: it sees the same samples, and nothing of what it says is published.

The pipeline's thread only copies a sample into shared memory when the child waits for one; else the sample is left out.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.children.process import OUT_BYTES_MOST, Ears, memory_most_mb, not_started, spawn
from edge_agent.children.requirements import Requirements
from edge_agent.children.shared_sample import SampleWriter, room_for
from edge_agent.core.golden import tensors_of
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.rollout_steps import Failed, Shadowed
from edge_agent.ports import Clock
from edge_agent.records import Array, TensorSpec
from edge_agent.rollouts import Reason
from edge_agent.stages.engine import Engine

REPORT_NS = 1_000_000_000
REST_NS = 10_000_000_000  # between samples while the live rate is under its floor
SILENCE_MOST_NS = 180_000_000_000  # it computes only when nothing else does, and loads first
_SMOOTHING = 0.1  # of the interval between samples
_SLOWER = 1.25
_LOOK_S = 0.5


class Live(Struct, frozen=True):
    """The live model as the child must know it. ``threshold``: the pipeline's, as for Engine.decode; ``floor_hz``:
    samples a second below which the shadow all but rests."""

    card: ResolvedCard
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    threshold: float | None = None
    floor_hz: float = 1.0


class ShadowRequest(Struct, frozen=True):
    """What the child is asked: ``memory`` and ``samples`` are descriptors of shared_sample.py."""

    path: Path
    requirements: Requirements
    live: Live
    duty: float
    memory_most_mb: float
    memory: int
    samples: int


class ShadowLine(Struct, frozen=True):
    """What it says, in JSON: that it waits for a sample, with the totals after the one before, or its last words."""

    shadowed: Shadowed | None = None
    failed: Failed | None = None


def live_of(engine: Engine, threshold: float | None = None, floor_hz: float = 1.0) -> Live:
    return Live(engine.card, tuple(engine.runtime.inputs), tuple(engine.runtime.outputs), threshold, floor_hz)


class ShadowChild:
    """One candidate under observation. ``report`` gets a Shadowed (totals since the start) at most once a second, or at
    last one Failed, after which nothing more comes; it is called on a thread of this object.
    """

    def __init__(
        self,
        path: Path,
        requirements: Requirements,
        live: Live,
        report: Callable[[Shadowed | Failed], None],
        clock: Clock,
        *,
        duty: float = 0.25,
    ) -> None:
        """Start the child; ``duty``: the share of time that it may compute. Raises UpdateError where it can't."""
        self._wanted = {name for head in live.card.outputs for name in tensors_of(head)}
        self._most_ns = 1e9 / live.floor_hz  # between two samples of the live model
        self._report = report
        self._clock = clock
        self._writer, self._ears = _start(path, requirements, live, duty)
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # several pipelines may offer
        self._waiting = False  # the child, for a sample
        self._heard_ns = self._offered_ns = clock.monotonic_ns()
        self._interval_ns = 0.0
        self._taken_ns: int | None = None
        self._thread = threading.Thread(target=self._listen, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, tensors: Mapping[str, Array], features: Mapping[str, float], outputs: Mapping[str, Array]) -> None:
        """From any pipeline's thread, after each run of the live model: its image tensors, its features in the card's
        units and its raw outputs. Never blocks, never raises; the arrays are the caller's again on return."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            now_ns = self._clock.monotonic_ns()
            slow = self._slow(now_ns)
            resting = slow and self._taken_ns is not None and now_ns - self._taken_ns < REST_NS
            if resting or not self._waiting:
                return
            said = {name: outputs[name] for name in self._wanted if name in outputs}
            self._taken_ns = self._heard_ns = now_ns
            self._waiting = False  # before the sample is put: its answer may overtake what follows
            if not self._writer.put(tensors, features, said):
                self._waiting = True
        finally:
            self._lock.release()

    def _slow(self, now_ns: int) -> bool:
        """Whether the live rate is under its floor; one that was lower before the child computed anything is no fault
        of the child."""
        interval_ns, self._offered_ns = now_ns - self._offered_ns, now_ns
        before_ns = self._interval_ns or interval_ns
        self._interval_ns = before_ns + _SMOOTHING * (interval_ns - before_ns)
        if self._taken_ns is None:
            self._most_ns = max(self._most_ns, _SLOWER * self._interval_ns)
        return self._interval_ns > self._most_ns

    @property
    def waiting(self) -> bool:
        """Whether the child has loaded the model and waits for a sample."""
        return self._waiting

    @property
    def pid(self) -> int:
        return self._ears.pid

    def stop(self) -> None:
        """End the child. Nothing is reported any more. May be called twice, from any thread but ``report``'s."""
        self._stopping.set()
        self._thread.join()

    def _listen(self) -> None:
        try:
            failed = self._follow()
        finally:
            with self._lock:
                self._waiting = False
                self._writer.close()
            self._ears.close()
        if failed is not None and not self._stopping.is_set():
            self._report(failed)

    def _follow(self) -> Failed | None:
        """Until it fails, or is told to stop (None)."""
        reported_ns, rest = self._clock.monotonic_ns(), b""
        while not self._stopping.is_set():
            if not self._ears.open:
                if (ended := self._ears.ended()) is None:
                    continue
                reason = Reason.MEMORY if ended.of_memory else Reason.CRASHED
                return Failed(reason, f"the child with the model {ended.why}", final=not ended.of_memory)
            *lines, rest = (rest + self._ears.hear(_LOOK_S)).split(b"\n")
            now_ns = self._clock.monotonic_ns()
            for line in lines if len(rest) <= OUT_BYTES_MOST else [rest]:
                heard = _line(line)
                if heard.failed is not None:
                    return heard.failed
                if heard.shadowed is not None and now_ns - reported_ns >= REPORT_NS:
                    reported_ns = now_ns
                    self._report(heard.shadowed)
                self._heard_ns, self._waiting = now_ns, True
            if not self._waiting and now_ns - self._heard_ns > SILENCE_MOST_NS:
                return Failed(Reason.TIMEOUT, f"no answer to a sample within {SILENCE_MOST_NS / 1e9:g} s")
        return None


def _start(path: Path, requirements: Requirements, live: Live, duty: float) -> tuple[SampleWriter, Ears]:
    """The way to the child, and the child. Raises UpdateError, and then nothing of it is left."""
    images = {item.tensor for item in live.card.image_inputs}
    size = room_for([*(spec for spec in live.inputs if spec.name in images), *live.outputs])
    with contextlib.ExitStack() as opened:  # by the child too, once it has started
        try:
            memory = os.memfd_create("sample")
            opened.callback(os.close, memory)
            os.ftruncate(memory, size)
            shared = mmap.mmap(memory, size)
            reading, writing = os.pipe()
            opened.callback(os.close, reading)
            writer = SampleWriter(shared, writing)
        except OSError as error:
            raise not_started(error) from error
        try:
            request = ShadowRequest(path.absolute(), requirements, live, duty, memory_most_mb(), memory, reading)
            return writer, Ears(spawn("edge_agent.children.shadow_child", request, pass_fds=(memory, reading)))
        except BaseException:
            writer.close()
            raise


def _line(line: bytes) -> ShadowLine:
    """What can't be read is the child's fault, never the daemon's."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.decode(line, type=ShadowLine)
    return ShadowLine(
        failed=Failed(Reason.CRASHED, "the child with the model gave an answer without sense", final=True)
    )
