"""A runtime that outlives its device: where the device is lost, the next back-end that needs none takes over within the
same run, and a thread brings the device back when it answers again.

Nothing is lost by a change: the sample that failed runs again on the back-end that takes over, and one that comes back
is built, tried and warm before it is handed over, between two runs. Both have the same tensors, or nothing changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from edge_agent import limits
from edge_agent.errors import DeviceError, DeviceLostError, EdgeAgentError, RunError
from edge_agent.io.runtimes.builder import Builder
from edge_agent.io.runtimes.candidates import Candidate, stand_ins
from edge_agent.io.runtimes.keeper import Keeper
from edge_agent.ports import Runtime
from edge_agent.records import Array, RuntimeInfo, TensorSpec


class Change(NamedTuple):
    """Something that a person may want to know, named as an event is."""

    kind: Literal["delegate_lost", "delegate_restored", "delegate_no_fallback"]
    detail: str


Listener = Callable[[Change], None]


class FailoverRuntime:
    """Implements ``ports.Runtime`` around the one that was chosen. ``invoke`` is for one thread only, which may not be
    the one of ``close``: that comes after the last run.

    An input that ``invoke`` does not name keeps its last value only as long as the back-end stays.
    """

    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    info: RuntimeInfo

    def __init__(self, runtime: Runtime, candidates: Sequence[Candidate], position: int, builder: Builder) -> None:
        """``candidates``: all that may run the model, the most wanted first; ``position``: of the one that runs."""
        self.inputs, self.outputs, self.info = runtime.inputs, runtime.outputs, runtime.info
        self.losses = 0
        self.repeats = 0  # runs that failed and went well at once when they were tried again
        self._candidates = candidates
        self._sha256 = candidates[position].source.sha256  # of what the tensors are known from
        self._position = position
        self._builder = builder
        self._runtime: Runtime | None = runtime
        self._since_s = time.monotonic()
        self._spare: tuple[int, Runtime] | None = None  # built when the device was under suspicion
        self._failures = 0  # samples in a row that failed without anybody to ask
        self._unprotected = ""  # why nothing can stand in
        self._lost: set[int] = set()  # before anybody followed, with the other devices behind
        self._keeper: Keeper | None = None
        self._listener: Listener = lambda _change: None
        if candidates[position].backend.device and not stand_ins(candidates[position + 1 :]):
            self._say_no_fallback("no back-end without a device is declared, or the model has no build for one")

    def follow(self, listener: Listener) -> None:
        """From now on tell ``listener`` of each change (it is called on the thread of the run, or on one of this
        object, and returns at once), and bring back what is lost. For a process that runs for long; once."""
        self._listener = listener
        lost, self._lost = self._lost, set()
        self._keeper = Keeper(self._candidates, self._position, self._builder, self._misfit, self._no_fallback, lost)
        self._keeper.start()
        if lost:
            listener(Change("delegate_lost", self.info.reason))

    def invoke(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """As ``ports.Runtime``. Raises ModelError where the model refuses the input on the processor too,
        DeviceLostError while the device is gone and nothing stands in for it."""
        self._take_over()
        if self._runtime is None:
            raise DeviceLostError(self.info.reason)
        try:
            outputs = self._runtime.invoke(tensors)
        except DeviceError as error:
            return self._run_elsewhere(str(error), tensors)
        except RunError as error:
            if not self._candidates[self._position].backend.device:
                raise
            return self._doubt(self._runtime, error, tensors)
        self._failures = 0
        return outputs

    def close(self) -> None:
        """As ``ports.Runtime``."""
        keeper, self._keeper = self._keeper, None
        runtimes = [self._runtime, self._spare[1] if self._spare else None]
        self._runtime = self._spare = None
        for runtime in runtimes:
            if runtime is not None:
                runtime.close()
        if keeper is not None:
            keeper.close()  # not before: a runtime's own process may end with the thread that started it
            keeper.put_away()  # not before: a library may also die of being closed

    # --- loss ----------------------------------------------------------------------------------------------------

    def _doubt(self, runtime: Runtime, error: RunError, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The run failed: a hiccup, the device's end, or an input that no back-end takes?"""
        try:
            outputs = runtime.invoke(tensors)
        except DeviceError as lost:
            return self._run_elsewhere(str(lost), tensors)
        except RunError:
            pass
        else:
            self.repeats += 1
            return outputs
        self._spare = self._spare or self._stand_in()
        if self._spare is None:
            self._failures += 1
            if self._failures < limits.DELEGATE_FAILURES_MOST:
                raise error
        else:
            outputs = self._spare[1].invoke(tensors)  # if this is refused too, it is the input: the device stays
        self._lose(str(error))
        if self._runtime is None:
            raise DeviceLostError(self.info.reason)
        return outputs

    def _run_elsewhere(self, why: str, tensors: Mapping[str, Array]) -> dict[str, Array]:
        self._lose(why)
        if self._runtime is None:
            raise DeviceLostError(self.info.reason)
        return self._runtime.invoke(tensors)

    def _lose(self, why: str) -> None:
        """The device is gone: what stands in for it runs from now on, or nothing does."""
        lost, gone = self._candidates[self._position], self._runtime
        lived_s = time.monotonic() - self._since_s
        why = why.removeprefix(f"{lost.name}: ")
        taken = self._spare or self._stand_in()
        self._spare, self._failures = None, 0
        self.losses += 1
        retry = ""
        between = range(self._position + 1, taken[0] if taken else len(self._candidates))
        missed = {self._position, *(other for other in between if self._candidates[other].backend.device)}
        if self._keeper is not None:
            retry_s = self._keeper.lost(self._position, gone, lived_s, missed)
            retry = f"; {lost.name} is tried again in {retry_s:g} s"
        else:
            self._lost |= missed
            if gone is not None:
                gone.close()
        if taken is None:
            self._runtime = None
            reason = f"{lost.name}: {why}; nothing stands in for it"
            self.info = replace(self.info, reason=reason)
        else:
            self._position, self._runtime = taken
            reason = f"{lost.name}: {why}; using {self._candidates[self._position].label}"
            self.info = replace(self._runtime.info, reason=reason)
        self._since_s = time.monotonic()
        self._listener(Change("delegate_lost", reason + retry))

    def _stand_in(self) -> tuple[int, Runtime] | None:
        """The next that needs no device, built here and now: it takes milliseconds."""
        for candidate in stand_ins(self._candidates[self._position + 1 :]):
            try:
                runtime = self._builder.at_once(candidate)
            except EdgeAgentError:
                continue
            if not self._misfit(candidate, runtime):
                return self._candidates.index(candidate), runtime
            runtime.close()
        return None

    # --- return --------------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Run on what the keeper brings, from now on."""
        if self._keeper is None or (arrival := self._keeper.arrival()) is None:
            return
        left, gone, lived_s = self._position, self._runtime, time.monotonic() - self._since_s
        self._position, self._runtime = arrival
        name = self._candidates[self._position].name
        self.info = self._runtime.info
        if self._unprotected:
            self._say_no_fallback(self._unprotected)
        self._since_s = time.monotonic()
        self._keeper.replaced(left, gone)
        stood_in = f"{self._candidates[left].label} stood in for it" if gone is not None else "nothing stood in for it"
        self._listener(Change("delegate_restored", f"{name} runs the model again; {stood_in} for {lived_s:.0f} s"))

    def _misfit(self, candidate: Candidate, runtime: Runtime) -> str:
        """Empty where it has the same tensors, as every back-end gives the same bytes; else what differs."""
        if candidate.source.sha256 == self._sha256:
            return ""
        for role, mine, its in (("input", self.inputs, runtime.inputs), ("output", self.outputs, runtime.outputs)):
            here, there = {spec.name: spec for spec in mine}, {spec.name: spec for spec in its}
            for name in sorted(here.keys() | there.keys()):
                if name not in here or name not in there:
                    return f"{role} {name!r} is only in one of the two builds"
                if not _alike(here[name], there[name]):
                    return f"{role} {name!r} is {_described(there[name])} there and {_described(here[name])} here"
        return ""

    def _no_fallback(self, why: str) -> None:
        self._say_no_fallback(why)
        self._listener(Change("delegate_no_fallback", self.info.reason))

    def _say_no_fallback(self, why: str) -> None:
        self._unprotected = why
        reasons = [self.info.reason, f"no fall-back: {why}"]
        self.info = replace(self.info, reason="; ".join(reason for reason in reasons if reason))


def _alike(one: TensorSpec, other: TensorSpec) -> bool:
    """All that must agree. The index is the interpreter's own affair, and a shape may be known only after a run."""
    if (one.dtype, one.scale, one.zero_point) != (other.dtype, other.scale, other.zero_point):
        return False
    return -1 in (*one.shape, *other.shape) or not (one.shape and other.shape) or one.shape == other.shape


def _described(spec: TensorSpec) -> str:
    return f"{spec.dtype} {spec.shape}, scale {spec.scale:g}, zero point {spec.zero_point}"
