"""The nouns of the daemon, with their units and shapes. Values only: no behaviour that needs the outside.

Times named ``mono_ns`` are CLOCK_MONOTONIC in nanoseconds, the one clock inside the process.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct, field

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
TimeSource = Literal["driver", "arrival", "media"]


class Flag(str, Enum):
    """What is known to be wrong with a reading. Travels with it into the payload."""

    MISSING = "missing"  # no usable reading in the window
    FILLED = "filled"  # the card's fill value stands in its place
    STALE = "stale"  # the sensor delivered before, but nothing younger than max_age
    HELD = "held"  # an older value was held beyond max_skew
    NOT_INTERPOLATED = "not_interpolated"  # only one neighbour was there: the nearest was taken
    OUT_OF_RANGE = "out_of_range"  # outside the range of the field or of the card
    STUCK = "stuck"  # bit-identical for longer than stuck_after
    INVALID = "invalid"  # not a finite number (text, NaN, a missing field)


class DiscardReason(str, Enum):
    """Why a frame never became a published prediction. Every one has a counter in ``stats``."""

    RATE = "rate"  # over the configured rate of the pipeline
    PAUSED = "paused"  # set/<pipeline>/paused
    SUPERSEDED = "superseded"  # a newer frame of a live camera took its place
    UNREADABLE = "unreadable"  # the source delivered a frame that can't be decoded
    MISSING_FEATURE = "missing_feature"  # align.missing = "discard"
    MISSING_IMAGE = "missing_image"  # a further camera had no frame within align.max_skew
    INVOKE_ERROR = "invoke_error"
    DECODE_ERROR = "decode_error"  # the outputs can't be read as the card says (not finite, for example)
    UNCHANGED = "unchanged"  # publish.mode = "change"
    AGGREGATED = "aggregated"  # publish.mode = "interval": part of a published aggregate
    OUTBOX_FULL = "outbox_full"
    EXPIRED = "expired"  # older than the outbox's age bound before it could be delivered
    REFUSED = "refused"  # the broker will never take this message (too large, not authorised)
    SHUTDOWN = "shutdown"  # in flight when the process was told to stop, and the disk did not take it
    THROTTLED = "throttled"  # the rate is lowered by rule: the board is too hot
    INTERNAL_ERROR = "internal_error"  # an error of the program itself; the worker was started again
    DAMAGED = "damaged"  # the stored copy was damaged on the disk


class Grab(Struct, frozen=True):
    """A frame that the source holds ready, before its pixels are paid for.

    ``mono_ns`` is the capture time; ``arrival_ns`` when this process got hold of it (also CLOCK_MONOTONIC).
    ``skipped`` counts the frames since the last grab that the source gave up for this newer one.
    """

    mono_ns: int
    arrival_ns: int
    time_source: TimeSource
    skipped: int = 0


class Frame(Struct, frozen=True):
    """One picture. ``pixels`` is (height, width, 3) uint8 BGR; the camera may reuse the memory after the
    pipelines have been offered the frame, so nobody keeps a reference and nobody writes to it."""

    camera: str
    seq: int  # counts the frames of this camera in this process, from 0
    mono_ns: int
    arrival_ns: int
    time_source: TimeSource
    pixels: Pixels
    capture_ns: int = 0  # time spent in the driver or decoder
    media_ns: int | None = None  # time since the start of the file or folder; None for live sources


class RawSample(Struct, frozen=True):
    """What a sensor delivered at one moment: field name -> raw value as the device gave it (number or text).

    A configured field that the device did not deliver is absent from ``values``.
    """

    mono_ns: int
    values: dict[str, object]


class Reading(Struct, frozen=True):
    """One converted value of one sensor field. ``value`` is in ``unit``; None where flags say ``invalid``."""

    key: str  # "sensor.field"
    mono_ns: int
    value: float | None
    unit: str
    flags: tuple[Flag, ...] = ()


class AlignedReading(Struct, frozen=True):
    """What a sample carries for one sensor field. ``age_ns`` is frame time minus reading time (negative: later
    than the frame), None where no reading was used."""

    value: float | None
    unit: str
    age_ns: int | None
    flags: tuple[Flag, ...] = ()


class Sample(Struct, frozen=True):
    """A frame's readings after alignment: ``readings`` by payload name; ``features`` by model feature name,
    each in the card's unit and already filled where missing."""

    readings: dict[str, AlignedReading]
    features: dict[str, float]
    quality: tuple[str, ...] = ()


class Discard(Struct, frozen=True):
    reason: DiscardReason
    detail: str = ""


class TensorSpec(Struct, frozen=True):
    """One input or output tensor. ``name`` is the signature's name where the model has one, else the tensor's.

    ``scale == 0`` means not quantised. Real value = (q - zero_point) * scale.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0


class Crossing(Struct, frozen=True):
    """How model coordinates map back to the original frame: x_frame = x_model * scale_x + offset_x, all in 0..1."""

    scale_x: float = 1.0
    offset_x: float = 0.0
    scale_y: float = 1.0
    offset_y: float = 0.0


class TensorMetadata(Struct, frozen=True):
    """What standard TFLite metadata says of one tensor. ``labels`` is the name of an associated file."""

    name: str
    content: Literal["image", "feature", "bounding_box", "unknown"]
    color: Literal["rgb", "gray"] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: str | None = None
    labels_of: Literal["elements", "values"] = "elements"  # values: the tensor holds class numbers


class StandardMetadata(Struct, frozen=True):
    """The parts of a ``TFLITE_METADATA`` buffer that are used; tensors in the order of the subgraph's lists."""

    name: str
    version: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


Form = Literal["tflite", "edgetpu", "onnx"]
"""What a model file holds: a TFLite graph, one that is compiled for the Edge TPU, an ONNX graph."""


class ModelFile(Struct, frozen=True):
    """One model file as read: all bytes at once (a mapped file that is truncated under a live model is SIGBUS)."""

    path: str
    content: bytes
    sha256: str
    card: dict[str, Any] | None  # edge-agent/card.json, not yet checked
    metadata: StandardMetadata | None
    members: dict[str, bytes]  # the zip after the flatbuffer: associated files by name
    form: Form = "tflite"
    notes: tuple[str, ...] = ()  # what could not be read, for example a damaged zip


class ModelIdentity(Struct, frozen=True):
    name: str
    version: str
    sha256: str


class RuntimeInfo(Struct, frozen=True):
    """The back-end that really runs: ``delegate`` is its configured name, ``reason`` why it and not an earlier
    one in the declared order, ``runtime`` the library and version, ``delegated`` whether a DELEGATE op was seen."""

    delegate: str
    runtime: str
    threads: int
    delegated: bool
    reason: str = ""


class Latency(Struct, frozen=True):
    """Nanoseconds of each stage for one sample. ``total`` runs from the frame's arrival to the decoded result."""

    capture: int
    align: int
    preprocess: int
    invoke: int
    decode: int
    total: int


class Prediction(Struct, frozen=True):
    """One result before it is given an identity. ``outputs`` maps the output's name to its payload object."""

    pipeline: str
    frame_seq: int
    mono_ns: int  # of the frame
    time_source: TimeSource
    model: ModelIdentity
    delegate: str
    latency: Latency
    outputs: dict[str, dict[str, object]]
    readings: dict[str, AlignedReading] = field(default_factory=dict)
    quality: tuple[str, ...] = ()


class Event(Struct, frozen=True):
    """Something that a person may want to know: ``kind`` is a stable word, ``subject`` what it happened to."""

    kind: str
    severity: Literal["info", "warning", "error"]
    subject: str
    detail: str


class Metric(Struct, frozen=True):
    """One name of a scrape. ``samples``: (values of ``labels``, value) each; a counter only grows while the process
    lives, and its name gets "_total" at the end when it is written."""

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]
