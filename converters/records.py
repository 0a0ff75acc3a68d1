"""The nouns of the converters. Values only, with shapes, dtypes and units; the device's nouns are imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct, field

from edge_agent.records import Array, Pixels

Kind = Literal["tflite", "keras3", "keras2", "saved_model", "torch", "onnx"]
Environment = Literal["keras", "torch", "onnx"]
Scheme = Literal["float32", "int8", "dynamic", "float16", "mixed", "16x8"]
Tensors = dict[str, Array]  # by tensor name, one sample or a batch
Split = Literal["train", "calibration", "test"]


class Box(Struct, frozen=True):
    """One object of a detection's truth: ``corners`` is (x0, y0, x1, y1) in 0..1 of the picture."""

    index: int
    corners: tuple[float, float, float, float]


Label = int | float | bool | tuple[Box, ...]
"""By the output's task: class index, value in the card's unit, anomalous or not, boxes."""


class Example(Struct, frozen=True):
    """One row of a data set as the device would see it.

    ``images``: by input tensor, (height, width, 3) uint8 BGR of any size. ``features``: by the card's feature name, in
    the card's unit; a missing one holds the card's fill value and is named in ``filled``. ``labels``: by output name;
    empty where the data set has none. ``trained``: by input tensor, what the training code fed the float model for
    this row, float32 without a batch axis; None where the data set does not say.
    """

    id: str
    images: Mapping[str, Pixels]
    features: Mapping[str, float]
    labels: Mapping[str, Label]
    filled: tuple[str, ...] = ()
    trained: Mapping[str, Array] | None = None


class Dataset(Protocol):
    """Rows in a fixed order. Reading row i twice gives the same; rows are decoded when asked for, not before."""

    spec: str  # as given on the command line

    def __len__(self) -> int: ...

    def example(self, index: int) -> Example:
        """Raises ConfigError that names file, row, column and what to do."""

    def rows(self, split: Split) -> Sequence[int]:
        """The rows of a split, in order. What the data set does not split is split by row number, the same always:
        every fifth row is for "test", the others for "train"; "calibration" is taken from "train"."""

    def sha256(self) -> str:
        """Of everything that the rows are made from."""


class FloatModel(Struct, frozen=True):
    """A trained model on its way: ``content`` is a float .tflite with batch 1 and one signature whose names are the
    source's own. ``versions`` are the packages that made it."""

    content: bytes
    kind: Kind
    path: str
    sha256: str  # of the source file or folder
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()


class Arrays(Struct, frozen=True):
    """Rows of a split ready for training code: what the device's preprocessing makes of them, before quantising.

    ``images``: (n, h, w, c) uint8 by tensor, resized, in the model's channel order; the float model takes
    (pixel - mean) / std with ``normalisation[tensor] == (mean, std)``, one value or one a channel. ``features``: (n, k)
    float32 by tensor, scaled and clipped by the card. ``labels``: (n,) by output tensor: int64 class indices or float32
    values in the model's own scale. ``ids``: the rows' names.
    """

    images: Tensors
    normalisation: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    features: Tensors
    labels: Tensors
    ids: tuple[str, ...]


class Quantized(Struct, frozen=True):
    """A model after quantisation, bare (no card yet). ``float_ops`` are the names of ops that stayed in float, each
    with the reason; ``minimum_runtime`` the oldest LiteRT or TFLite that runs it rightly."""

    content: bytes
    scheme: Scheme
    method: str  # for a person: "min-max of 300 samples", "quantisation-aware, 2 epochs"
    float_ops: dict[str, str] = {}
    minimum_runtime: str = ""
    notes: tuple[str, ...] = ()


class Tool(Struct, frozen=True):
    """A program that made something: for provenance."""

    name: str
    version: str


Json = Mapping[str, Any]


class Written(Struct, frozen=True):
    """A file that a command wrote."""

    path: Path
    bytes: int
    sha256: str
    notes: tuple[str, ...] = field(default_factory=tuple)
