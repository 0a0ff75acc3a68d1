"""The child of shadow.py: loads the candidate, then compares it with the live model, sample by sample.

It computes only when nothing else wants the processor, and then for a share of the time.
"""

from __future__ import annotations

import mmap
import os
import time
from functools import partial

import msgspec

from edge_agent.children import inside
from edge_agent.children.candidate import Refusal, load_candidate, read_candidate, refusing
from edge_agent.children.shadow import ShadowLine, ShadowRequest
from edge_agent.children.shared_sample import SharedSample, samples
from edge_agent.core.agreement import Agreement
from edge_agent.core.decode import DecodeError, Decoder
from edge_agent.core.input_translation import Inputs, InputTranslation
from edge_agent.core.latency import Quantiles
from edge_agent.core.rollout_steps import Failed, Shadowed
from edge_agent.records import Array, Crossing
from edge_agent.rollouts import Reason
from edge_agent.stages.engine import Engine

REST_MOST_S = 10.0


class Shadow:
    """The candidate and what is known of it so far."""

    def __init__(self, request: ShadowRequest) -> None:
        """Raises Refusal."""
        self._gauge = inside.MemoryGauge()
        live = request.live
        file = read_candidate(request.path, request.requirements)
        self._engine: Engine = load_candidate(file, request.path, request.requirements).engine
        with refusing(Reason.LOAD):
            self._engine.warm_up()
        with refusing(Reason.INCOMPATIBLE):
            mine = Inputs(self._engine.card, self._engine.runtime.inputs)
            self._translation = InputTranslation(Inputs(live.card, live.inputs), mine)
        self._live = Decoder(live.card, live.outputs)
        self._threshold = live.threshold
        self._agreement = Agreement()
        self._latencies = Quantiles()

    def see(self, sample: SharedSample) -> None:
        """Raises Refusal when the candidate fails on it."""
        try:
            said = self._live.decode(sample.outputs, Crossing(), self._threshold)
        except DecodeError:  # the live model's own fault
            return
        images = self._translation.images(sample.tensors)
        features = self._translation.features(sample.features)
        outputs: list[dict[str, Array]] = []
        with refusing(Reason.INVOKE):
            run = partial(self._engine.invoke, images, features)
            self._latencies.add(inside.timed(self._engine.runtime.info, lambda: outputs.append(run())))
        with refusing(Reason.OUTPUT):
            found = self._engine.decode(outputs[0], Crossing(), self._threshold)
        self._agreement.add(said, found)

    def totals(self) -> Shadowed:
        return Shadowed(
            samples=self._agreement.samples,
            agreement=round(self._agreement.share, 6),
            p95_ms=round(self._latencies.quantile(0.95) / 1e6, 4),
            memory_mb=self._gauge.grown_mb(),
        )


def observe(request: ShadowRequest, channel: int) -> None:
    """Until the daemon closes its end. Raises Refusal."""
    memory = mmap.mmap(request.memory, 0, access=mmap.ACCESS_READ)
    shadow = Shadow(request)
    inside.yield_to_others()  # not before: a busy board would never load it
    _say(channel, ShadowLine())
    with os.fdopen(request.samples, "rb") as pipe:
        for sample in samples(memory, pipe):
            started_ns = (
                time.process_time_ns()
            )  # where others have the processor, the sample takes long and costs little
            shadow.see(sample)
            busy_s = (time.process_time_ns() - started_ns) / 1e9
            time.sleep(min(REST_MOST_S, busy_s * (1 / request.duty - 1)))
            _say(channel, ShadowLine(shadowed=shadow.totals()))


def _say(channel: int, line: ShadowLine) -> None:
    os.write(channel, msgspec.json.encode(line) + b"\n")


def main() -> None:
    request: ShadowRequest = inside.request()
    channel = inside.answer_channel()
    inside.go_first()
    inside.limit_memory(request.memory_most_mb)
    try:
        observe(request, channel)
    except Refusal as refusal:
        _say(channel, ShadowLine(failed=Failed(refusal.reason, str(refusal), refusal.final)))
    os._exit(0)  # the libraries' exit handlers have nothing to say here


if __name__ == "__main__":
    main()
