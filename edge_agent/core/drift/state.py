"""All that a monitor of drift knows, as a value that can be written down and read again bit by bit."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.core.drift.bins import FeatureSpec, binning_of
from edge_agent.core.drift.blocks import BINS, OpenBlocks, Table, lengths_of
from edge_agent.core.drift.chance import Chance
from edge_agent.core.drift.commissioning import Commissioning
from edge_agent.core.drift.counts import Accumulator
from edge_agent.core.drift.edetector import EDetector
from edge_agent.core.drift.levels import Levels
from edge_agent.core.drift.martingale import Martingale, weights_of
from edge_agent.core.drift.parameters import CONTEXTS
from edge_agent.monitoring import Binning, Reference, Tally
from edge_agent.records import Array

SCHEMA: Final = b"edge-agent/drift-state/1\n"
_DIGEST: Final = hashlib.sha256().digest_size
LEARNING: Final = -1  # instead of the length of a feature's blocks


class Settings(Struct, frozen=True):
    """``block_ns``: the least length of a block; ``commissioning_ns``: how long a baseline is learnt; ``model``: whose
    predictions are watched, as its sha256. Those of another one are learnt anew."""

    block_ns: int
    commissioning_ns: int
    model: str = ""


class State(Struct):
    """Of F features. Time is the stream's own: nanoseconds since its first row, going on over restarts. ``lengths``: of
    blocks, in these, and ``usual_rows`` of one of late, by length. ``length`` (F,): index of each feature's blocks,
    LEARNING before its baseline is there; ``rows`` (F,) of such a block, and ``contexts`` (F,), when it was learnt;
    ``shares`` (CONTEXTS, F, BINS) of the baseline, ``tolerance`` (2, CONTEXTS, F) from the reference's and from these.
    ``weights`` (2, F, BINS - 1) of own bins."""

    specs: tuple[FeatureSpec, ...]
    settings: Settings
    reference: Reference | None
    own: Binning
    lengths: tuple[int, ...]
    chance: Chance
    weights: Array
    martingale: Martingale
    against_reference: EDetector
    against_baseline: EDetector
    levels: Levels
    length: Array
    contexts: Array
    rows: Array
    shares: Array
    tolerance: Array
    correlation: float
    learning: list[Commissioning]
    open: OpenBlocks
    usual_rows: list[float]
    last: Array
    tally: bytes | None = None  # JSON: sums of squares may pass 2**64, where MessagePack ends
    reached_ns: int = 0
    wall_ns: int | None = None  # at ``reached_ns``, where the clock was synchronised
    blocks: int = 0  # of the least length, since the first baseline
    closed: int = 0  # of any length, ever
    since_wall_ns: int | None = None
    accepted: bool = False  # the distance from the reference
    reason: str = ""  # of the latest new baseline

    @property
    def tally_binning(self) -> Binning:
        return self.reference.binning if self.reference else self.own

    def keep_tally(self, accumulator: Accumulator) -> None:
        self.tally, self.last = msgspec.json.encode(accumulator.tally()), accumulator.last

    def accumulator(self) -> Accumulator:
        """Raises ValueError where the counts are of another binning."""
        start = msgspec.json.decode(self.tally, type=Tally) if self.tally is not None else None
        return Accumulator(self.tally_binning, start, self.last)

    def tables(self) -> list[Table]:
        """Of own bins, and of the reference's where there is one."""
        return [Table(self.own), *([Table(self.reference.binning)] if self.reference else [])]


def fresh(specs: Sequence[FeatureSpec], settings: Settings, reference: Reference | None, seed: int) -> State:
    """``reference``: of just these features, in their order; ValueError if not."""
    specs, n = tuple(specs), len(specs)
    held = without_projection(reference)
    if held and [feature.name for feature in held.binning] != [spec.name for spec in specs]:
        raise ValueError("the reference has other features, or another order of them")
    lengths = lengths_of(settings.block_ns, settings.commissioning_ns)
    own = held.binning if held else binning_of(specs, np.zeros((0, n)))
    state = State(
        specs=specs,
        settings=settings,
        reference=held,
        own=own,
        lengths=lengths,
        chance=Chance(seed % 2**64),
        weights=np.full((2, n, BINS - 1), 0.5),
        martingale=Martingale.empty(n),
        against_reference=EDetector.empty(n, BINS),
        against_baseline=EDetector.empty(n, BINS),
        levels=Levels.empty(n),
        length=np.full(n, LEARNING),
        contexts=np.ones(n, np.int64),
        rows=np.zeros(n),
        shares=np.zeros((CONTEXTS, n, BINS)),
        tolerance=np.ones((2, CONTEXTS, n)),
        correlation=0.0,
        learning=[],
        open=OpenBlocks((), [], [], []),
        usual_rows=[0.0] * len(lengths),
        last=np.full(n, np.nan),
    )
    state.open = OpenBlocks.empty(lengths, state.tables())
    if held:
        state.weights = weights_of(_counts(held, Table(held.binning)), held.binning)
    return state


def expected_shares(reference: Reference | None) -> Array | None:
    """(F, BINS) of R0."""
    if reference is None:
        return None
    table = Table(reference.binning)
    return table.shares(_counts(reference, table))


def _counts(reference: Reference, table: Table) -> Array:
    return table.laid_out(np.array([count for counts in reference.counts for count in counts]))


def without_projection(reference: Reference | None) -> Reference | None:
    """What a state keeps of it: megabytes of projection matter to the observer alone."""
    return replace(reference, projection=None) if reference else None


def pack(state: State) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(state, enc_hook=_array_out), 1)
    return SCHEMA + hashlib.sha256(body).digest() + body


def unpack(content: bytes) -> State:
    """Raises ValueError for another version and for damage."""
    if not content.startswith(SCHEMA):
        raise ValueError("the drift state is of another version")
    digest, body = content[len(SCHEMA) :][:_DIGEST], content[len(SCHEMA) + _DIGEST :]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the drift state is damaged: it does not have its checksum")
    try:
        return msgspec.msgpack.decode(zlib.decompress(body), type=State, dec_hook=_array_in)
    except (msgspec.MsgspecError, zlib.error) as error:
        raise ValueError(f"the drift state does not read as one: {error}") from None


def _array_out(array: Any) -> Any:
    return array.dtype.str, array.shape, array.tobytes()


def _array_in(_kind: type, said: Any) -> Any:
    kind, shape, content = said
    return np.frombuffer(content, kind).reshape(shape).copy()
