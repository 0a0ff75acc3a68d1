"""Predictions as a small classifier with three sensor fields publishes them: what the delivery benchmarks deliver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from edge_agent.core.wire import Identity, Topics, prediction_body
from edge_agent.outgoing import Kind, Record, Schema
from edge_agent.records import AlignedReading, Flag, Latency, ModelIdentity, Prediction

BOOT_ID: Final = "7d1c3c0e-8a53-4c57-9f0b-1d2e3f405162"
PIPELINE: Final = "inspect"
TOPICS: Final = Topics("edge-agent", "bench")
STREAM: Final = f"prediction/{PIPELINE}"
EXPIRY_S: Final = 86_400  # as [mqtt] prediction_expiry by default

_FIRST: Final = 1_000_000  # seven digits each
_SEQ: Final = 7_000_001  # stands in the model body where the sequence number goes


def _model_body() -> bytes:
    """One real body; the project's own code makes it."""
    scores = (("good", 0.91796875), ("scratched", 0.0625), ("dented", 0.01953125))
    classes = [{"label": label, "index": index, "score": score} for index, (label, score) in enumerate(scores)]
    prediction = Prediction(
        pipeline=PIPELINE,
        frame_seq=_SEQ,
        mono_ns=0,
        time_source="driver",
        model=ModelIdentity("conveyor", "1.2.0", "9f2b" * 16),
        delegate="xnnpack",
        latency=Latency(3_102_000, 411_000, 1_874_000, 11_930_000, 96_000, 17_413_000),
        outputs={"quality": {"task": "classification", "classes": classes}},
        readings={
            "belt.temperature": AlignedReading(21.375, "degC", 3_214_000),
            "belt.speed": AlignedReading(0.4825, "m/s", 1_880_000),
            "belt.vibration": AlignedReading(None, "g", None, (Flag.MISSING,)),
        },
    )
    return prediction_body(prediction, Identity(TOPICS.device, BOOT_ID, _SEQ))


def bodies(count: int) -> Iterator[bytes]:
    """All of the same size."""
    parts = _model_body().split(b"%d" % _SEQ)
    for seq in range(_FIRST, _FIRST + count):
        yield (b"%d" % seq).join(parts)


def records(count: int) -> Iterator[Record]:
    topic = TOPICS.prediction(PIPELINE)
    for body in bodies(count):
        now_ns = time.monotonic_ns()
        yield record(topic, body, now_ns)


def record(topic: str, body: bytes, now_ns: int) -> Record:
    """Of a frame that arrived 3 ms ago."""
    return Record(
        Kind.PREDICTION,
        topic,
        Schema.PREDICTION,
        body,
        now_ns,
        expiry_s=EXPIRY_S,
        pipeline=PIPELINE,
        arrival_ns=now_ns - 3_000_000,
    )
