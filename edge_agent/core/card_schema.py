"""The model card as it is written: ``edge-agent/card.json`` inside the .tflite, or ``[model.NAME.card]``.

Schema ``edge-agent/card/1``; docs/card.schema.json is made from these structs. An unknown key is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

CARD_SCHEMA = "edge-agent/card/1"
CARD_MEMBER = "edge-agent/card.json"  # names inside the zip that follows the flatbuffer
GOLDEN_MEMBER = "edge-agent/golden.npz"

Task = Literal["classification", "detection", "regression", "anomaly"]
Positive = Annotated[float, Meta(gt=0)]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An unknown key is an error, never ignored."""


class Feature(_Strict, frozen=True, kw_only=True):
    """One element of a feature tensor. Scaled outside the graph: (x - mean) / std, then clipped to +-clip."""

    name: str
    unit: str = ""
    mean: float = 0.0
    std: Positive = 1.0
    clip: Positive | None = None  # in standard deviations
    range: tuple[float, float] | None = None  # valid values in `unit`; outside: flagged out_of_range
    fill: float | None = None  # stands in for a missing reading; None: the mean


class ImageInput(_Strict, frozen=True, kw_only=True, tag_field="role", tag="image"):
    """A tensor that takes a picture. real = (pixel - mean) / std, pixel in 0..255, then quantised by the tensor.

    mean and std have one value or one for each channel, in the order of ``color``; both absent means: uint8 takes
    pixels as they are, int8 pixels minus 128, float pixel / 255.
    """

    tensor: str
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    resize: Literal["nearest", "bilinear", "area", "bicubic"] = "bilinear"
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    pad: Annotated[int, Meta(ge=0, le=255)] = 0  # letterbox: the pixel value of the bars
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class FeaturesInput(_Strict, frozen=True, kw_only=True, tag_field="role", tag="features"):
    """A tensor that takes sensor values, in this order."""

    tensor: str
    features: tuple[Feature, ...]


class StateInput(_Strict, frozen=True, kw_only=True, tag_field="role", tag="state"):
    """A tensor fed back from an output of the run before (an LSTM's state); starts as real zeros."""

    tensor: str
    source: str  # name of the output tensor


InputCard = ImageInput | FeaturesInput | StateInput


class ClassificationOutput(_Strict, frozen=True, kw_only=True, tag_field="task", tag="classification"):
    tensor: str
    name: str = "class"
    labels: tuple[str, ...] | str | None = None  # the list, or the name of an associated or neighbouring file
    activation: Literal["none", "softmax", "sigmoid"] = "none"  # what is still to be applied to the real values
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None  # None: every score, logits below 0 too


class DetectionOutput(_Strict, frozen=True, kw_only=True, tag_field="task", tag="detection"):
    """The four tensors of TFLite_Detection_PostProcess: boxes [1,N,4] as (y0, x0, y1, x1) in 0..1 of the model's
    picture, classes [1,N], scores [1,N], count [1]."""

    boxes: str
    classes: str
    scores: str
    count: str
    name: str = "objects"
    labels: tuple[str, ...] | str | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5


class RegressionOutput(_Strict, frozen=True, kw_only=True, tag_field="task", tag="regression"):
    """real * scale + offset, one value. ``element`` picks one of several in the tensor."""

    tensor: str
    name: str = "value"
    unit: str = ""
    element: Annotated[int, Meta(ge=0)] = 0
    scale: float = 1.0
    offset: float = 0.0


class AnomalyOutput(_Strict, frozen=True, kw_only=True, tag_field="task", tag="anomaly"):
    tensor: str
    threshold: float
    name: str = "anomaly"


OutputCard = ClassificationOutput | DetectionOutput | RegressionOutput | AnomalyOutput


class Budgets(_Strict, frozen=True, kw_only=True):
    p95_ms: Positive | None = None
    memory_mb: Positive | None = None


class Golden(_Strict, frozen=True, kw_only=True):
    """How far the golden outputs may differ from the stored ones, in steps of the output's quantisation; an output
    that is not quantised counts in steps of 1/256."""

    tolerance_lsb: Annotated[int, Meta(ge=0)] = 40
    argmax: bool = True
    reason: str = ""  # why this tolerance: what was measured


class Card(_Strict, frozen=True, kw_only=True):
    """All that is needed to run a model. What is left out comes from standard TFLite metadata, then from the
    configuration; roles are never guessed from shapes."""

    schema: Literal["edge-agent/card/1"] = "edge-agent/card/1"
    name: str | None = None
    version: str | None = None
    task: Task | None = None  # the single output's task, where `outputs` is not given
    labels: tuple[str, ...] | str | None = None  # for the single labelled output, where `outputs` is not given
    inputs: tuple[InputCard, ...] = ()
    outputs: tuple[OutputCard, ...] = ()
    budgets: Budgets | None = None
    golden: Golden | None = None
    provenance: dict[str, Any] = {}
