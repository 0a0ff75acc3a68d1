"""The nouns of the third journey: what is watched of a pipeline, and what is said of it. Values only; the statistics
are ``core/drift/``'s, docs/drift.md says what they promise. Times named ``mono_ns`` are CLOCK_MONOTONIC, ``wall_ns``
nanoseconds since 1970 UTC.

A *row* is one observation as numbers: a float64 for each feature, in the order of the binning; NaN where it is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal

from msgspec import Raw, Struct, field

from edge_agent.records import AlignedReading, Array, ModelIdentity

REFERENCE_SCHEMA = "edge-agent/drift-reference/1"
REFERENCE_MEMBER = "edge-agent/drift.json"  # the name inside the zip that follows the flatbuffer
NUMERIC_BINS = 10  # quantile bins of a numeric feature; one more counts the missing ones
CLASS_BINS_MOST = 32  # of a class feature; the last but one stands for all other classes, the last for missing

Group = Literal["sensor", "image", "prediction", "embedding"]


class Level(str, Enum):
    """How sure, and how bad. ``learning``: the baseline is not there yet and no other tier has anything to say."""

    LEARNING = "learning"
    OK = "ok"
    INFO = "info"  # the fast tier, at most one false alarm in 30 days on average
    WARNING = "warning"  # the fast tier, at most one in a year
    CRITICAL = "critical"  # a material change, a performance that fell, or a hard rule of data quality


LEVELS = tuple(Level)
"""From the least to the worst."""


class Numeric(Struct, frozen=True, tag_field="kind", tag="numeric", omit_defaults=True):
    """``edges`` are ascending and inside; a value equal to an edge belongs to the bin above it. Sums are kept in whole
    multiples of ``quantum``, so that they add up exactly in any order."""

    name: str
    group: Group
    edges: tuple[float, ...]
    quantum: float
    unit: str = ""
    range: tuple[float, float] | None = None  # in `unit`; what lies outside is counted as out of range


class Categorical(Struct, frozen=True, tag_field="kind", tag="class", omit_defaults=True):
    """``classes`` have a bin each, the most frequent first; any other class falls into the bin behind them."""

    name: str
    group: Group
    classes: tuple[int, ...]
    labels: tuple[str, ...] = ()  # of ``classes``, where they are known


Feature = Numeric | Categorical
Binning = tuple[Feature, ...]


class Projection(Struct, frozen=True):
    """From an output tensor that is an embedding to the eight features ``embedding.0`` ... ``embedding.7`` and
    ``embedding.distance``. float32 arrays: ``mean`` and ``inverse_variance`` (E,), ``components`` (E, 8)."""

    tensor: str
    mean: Array
    components: Array
    inverse_variance: Array


class Reference(Struct, frozen=True):
    """R0: the representative set as the model file carries it. ``counts`` by feature, in the order of the binning: int
    for each bin, the missing ones last. ``hits`` by classification output: for each bin of its confidence the number
    of labelled rows and of those that were right. ``confusion``: true class by predicted class, in the order of the
    output's class feature, other classes last."""

    binning: Binning
    counts: tuple[tuple[int, ...], ...]
    rows: int
    hits: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    confusion: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    projection: Projection | None = None
    source: Mapping[str, str] = field(default_factory=dict)  # data set, its sha256, the rows' split


class Observation(Struct, frozen=True):
    """What is seen of one inference, at most twice a second. ``features`` in the card's units, as the model got them;
    ``readings`` say which of them are no reading. ``image``: the statistics of the model's first picture, in the order
    of core.picture.names_of; None where it takes none. ``outputs``: raw tensors; ``decoded``: the payload objects.
    """

    mono_ns: int  # of the frame
    features: Mapping[str, float]
    readings: Mapping[str, AlignedReading]
    image: tuple[float, ...] | None
    outputs: Mapping[str, Array]
    decoded: Mapping[str, Mapping[str, object]]
    quality: tuple[str, ...] = ()


class Moment(Struct, frozen=True):
    """When: ``wall_ns`` means nothing to a day or a season while the clock is not synchronised."""

    mono_ns: int
    wall_ns: int
    synced: bool


class Tally(Struct, frozen=True):
    """Counts over some time; those of two devices, or of two times, with the same binning add up exactly. By feature in
    the order of the binning: ``bins`` (missing last), ``sums`` and ``squares`` of round(value / quantum), ``least`` and
    ``most`` as such multiples (None: none seen), ``outside`` the range, ``repeated``: the same as the value before.
    A class feature has zeros and None in all but ``bins``."""

    rows: int
    bins: tuple[tuple[int, ...], ...]
    sums: tuple[int, ...]
    squares: tuple[int, ...]
    least: tuple[int | None, ...]
    most: tuple[int | None, ...]
    outside: tuple[int, ...]
    repeated: tuple[int, ...]


class Learning(Struct, frozen=True):
    """The commissioning baseline R1: how far it is, and what it found. ``block_s``: length of a block now;
    ``correlation``: the largest lag-1 autocorrelation of its blocks; ``contexts``: parts of the day, 1 where the clock
    was never synchronised; ``daily``: features whose days differ, which are judged by whole days."""

    done: bool
    days: float
    of_days: float
    block_s: float
    correlation: float | None
    contexts: int
    daily: tuple[str, ...] = ()


class FeatureState(Struct, frozen=True):
    """``tier``: what raised the level: ``shape`` (the conformal martingale), ``reference`` (the e-detector against R0),
    ``baseline`` (against R1), "" while it is ok. Effect sizes are means of the latest blocks (half-life 8), None where
    there is nothing to compare with. ``evidence``: log10 of the feature's own statistic of the fast tier, in days."""

    name: str
    level: Level
    tier: str = ""
    since_wall_ns: int | None = None
    tv_reference: float | None = None
    psi_reference: float | None = None
    tv_baseline: float | None = None
    psi_baseline: float | None = None
    evidence: float = 0.0


class DriftView(Struct, frozen=True):
    """What a monitor says when asked. ``evidence``: log10 of the statistic of the fast tier over all features, in days,
    and ``threshold`` of info and warning on the same scale. An e-value is 10 ** evidence over the days since the
    baseline was there."""

    level: Level
    since_wall_ns: int | None
    learning: Learning
    features: tuple[FeatureState, ...]
    evidence: float
    threshold: tuple[float, float]
    blocks: int  # closed since the baseline was there


class LevelChange(Struct, frozen=True):
    """For an event. ``feature`` "" means the pipeline as a whole."""

    feature: str
    before: Level
    after: Level
    why: str  # a sentence: what, how much, since when, what to look at


SampleReason = Literal["random", "uncertain", "unusual", "mislabelled"]


class Held(Struct, frozen=True):
    """A sample that is kept, as its choice needs it. ``rank``: among those kept for the same reason, the lowest goes
    first; ``wall_ns``: when it was seen."""

    id: str
    reason: SampleReason
    rank: float
    wall_ns: int


class Sample(Struct, frozen=True, kw_only=True):
    """What is kept of one inference to label it and to train with. ``features``: by the card's name, in ``units``, None
    where there was no reading; ``tensors``: those that take a picture, the first is the kept one's; ``picture``: name
    of its file, "" for none; ``labels``: by output, as they came back; ``prediction``: the payload, "{}" where it was
    not published."""

    schema: Literal["edge-agent/sample/1"] = "edge-agent/sample/1"
    held: Held
    pipeline: str
    time: str  # RFC 3339
    clock_synced: bool
    model: ModelIdentity
    tensors: tuple[str, ...]
    picture: str = ""
    features: dict[str, float | None]
    units: dict[str, str]
    labels: dict[str, Any] = {}
    prediction: Raw = Raw(b"{}")
