"""What a pipeline hands on: each result to the publisher, and each run to whoever watches it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from edge_agent.records import Array, Crossing, Pixels, Sample, TimeSource
from edge_agent.stages.route import Route

Tap = Callable[[Mapping[str, Array], Mapping[str, float], Mapping[str, Array]], None]
"""Told of each run of the live model, on the pipeline's thread: image tensors, features in the card's units, outputs.
It must return at once; the arrays are the pipeline's again then."""


class Look(Struct, frozen=True):
    """``picture``: statistics of the model's first picture; None where it takes none, or not yet, for a further camera
    brings it. ``pixels``: a copy of the frame, (height, width, 3) uint8 BGR, where samples keep pictures."""

    picture: tuple[float, ...] | None
    pixels: Pixels | None


class Inference(Struct, frozen=True):
    """Raw outputs of one sample, on their way to the publisher. ``route``: whose engine made them and decodes them."""

    route: Route
    frame_seq: int
    mono_ns: int
    arrival_ns: int
    time_source: TimeSource
    sample: Sample
    outputs: dict[str, Array]
    delegate: str
    crossing: Crossing
    quality: tuple[str, ...]
    capture_ns: int
    align_ns: int
    preprocess_ns: int
    invoke_ns: int
    look: Look | None = None  # None: it is not watched
