"""How well a model does, by the labels that come back for its predictions: one of these for each pipeline.

Used by one thread; time is the caller's.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from edge_agent.core.feedback import Answer, Feedback, Result, Truth, truth_of
from edge_agent.core.kept_results import HeadResult, KeptResults, read_result
from edge_agent.core.model_card import ResolvedCard
from edge_agent.core.performance_head import HeadMeter
from edge_agent.core.performance_state import State, Timeline, pack, unpack
from edge_agent.monitoring import Level, LevelChange, Moment, Reference
from edge_agent.records import Array, ModelIdentity

WINDOW_S: Final = 86_400
RUNS_MOST: Final = 64  # whose ids are known
ECHOED_MOST: Final = 4096  # labels that came with their prediction and are known to be doubled if they come again


class Performance:
    """``horizon_ns``: labels of older predictions are late. ``begin`` comes first."""

    def __init__(
        self,
        card: ResolvedCard,
        identity: ModelIdentity,
        *,
        horizon_ns: int,
        reference: Reference | None = None,
        window_s: int = WINDOW_S,
    ) -> None:
        self._card, self._reference = card, reference
        self.heads = self._meters()
        self.answers: Counter[str] = Counter()
        self.since_wall_ns: int | None = None  # the deployment's begin, where the clock was synchronised then
        self._identity = identity
        self._window_s = window_s
        self._horizon_s = horizon_ns // 10**9
        self._kept = KeptResults(card.outputs)
        self._echoed: Array = np.zeros(0, np.uint64)
        self._runs: dict[str, int] = {}
        self._run = 0
        self._earlier = False  # whether another model came before this one
        self._window = 0
        self._timeline = Timeline()
        self._changes: list[LevelChange] = []

    # --- what happens ------------------------------------------------------------------------------------------------

    def begin(self, boot_id: str, now: Moment) -> None:
        """A run of the process begins: ids from now on are of this boot."""
        self._timeline.begin(now)
        if self.since_wall_ns is None and now.synced:
            self.since_wall_ns = now.wall_ns
        self._run = self._runs[boot_id] = max(self._runs.values(), default=0) + 1
        for old in list(self._runs)[:-RUNS_MOST]:
            del self._runs[old]

    def renew(
        self, card: ResolvedCard, identity: ModelIdentity, reference: Reference | None, now: Moment
    ) -> Performance:
        """For the model that runs from now on; labels for predictions of this one will be late."""
        new = Performance(
            card, identity, horizon_ns=self._horizon_s * 10**9, reference=reference, window_s=self._window_s
        )
        new._runs, new._run, new._earlier = dict(self._runs), self._run, True
        new._timeline = self._timeline
        new._window = self._timeline.at_s(now) // new._window_s
        new.since_wall_ns = now.wall_ns if now.synced else None
        return new

    def remember(self, seq: int, decoded: Mapping[str, Mapping[str, Any]], now: Moment) -> None:
        """A prediction was published: its seq, and the payload objects of its outputs. ``seq`` ascends. The aggregate
        of an interval is no single prediction, so it can't be labelled."""
        try:
            heads = [read_result(meter.head, decoded[meter.head.name]) for meter in self.heads]
        except ValueError:
            return
        self._kept.add(self._run, seq, self._timeline.at_s(now), heads)

    def label(self, feedback: Feedback, now: Moment) -> Answer:
        """Count a label. Never raises: what can't be counted is counted as that, and answered."""
        try:
            answer = self._label(feedback, now)
        except ValueError as error:
            answer = self._answer(feedback, "malformed", str(error))
        self.answers[answer.result] += 1
        return answer

    def estimate(self, bins: Mapping[str, Sequence[int]], now: Moment) -> None:
        """Counts of the confidence since the last call, by classification output: bins of the reference, missing last.
        To be called once a block."""
        at_s = self._timeline.at_s(now)
        for meter in self.heads:
            if meter.head.name in bins:
                meter.estimate(bins[meter.head.name], at_s, at_s - self._horizon_s, now.wall_ns)
                self._collect(meter)

    def rebaseline(self) -> None:
        """What the model does from now on is right; the figures stay, what was raised is over."""
        for meter in self.heads:
            meter.rebaseline()

    def changes(self) -> list[LevelChange]:
        """Level changes since the last call."""
        changes, self._changes = self._changes, []
        return changes

    # --- what is said ------------------------------------------------------------------------------------------------

    @property
    def level(self) -> Level:
        """The worst of all outputs."""
        levels = [watched.level for meter in self.heads for watched in (meter.labelled, meter.estimated)]
        return max(levels, key=tuple(Level).index, default=Level.LEARNING)

    def window(self, meter: HeadMeter, now: Moment) -> tuple[Any, int]:
        """The scores of the last one to two windows, and how many seconds they are."""
        at_s = self._roll(now)
        return meter.window().scores(), self._window_s + at_s % self._window_s

    def reach_s(self, now: Moment) -> int:
        """How far back predictions can be labelled without their message."""
        oldest_s = self._kept.oldest_s()
        return 0 if oldest_s is None else min(self._horizon_s, self._timeline.at_s(now) - oldest_s)

    # --- over a restart ----------------------------------------------------------------------------------------------

    def save(self, now: Moment) -> bytes:
        return pack(
            State(
                model=self._identity.sha256,
                at_s=self._timeline.at_s(now),
                wall_ns=now.wall_ns if now.synced else None,
                runs=self._runs,
                earlier=self._earlier,
                answers=dict(self.answers),
                window=self._window,
                since_wall_ns=self.since_wall_ns,
                kept=self._kept.dump(),
                echoed=self._echoed.tobytes(),
                heads=[meter.dump() for meter in self.heads],
            )
        )

    def restore(self, content: bytes) -> None:
        """Take up what ``save`` gave; ``begin`` follows. Of another model, or of other outputs, only the ids count:
        labels for its predictions are late. Raises ValueError for a damaged one and one of another version; nothing has
        changed then."""
        state = unpack(content)
        if state.model != self._identity.sha256 or [head["output"] for head in state.heads] != self._outputs():
            self._earlier = True
        else:
            self._take_up(state)
        self._timeline.resume(state.at_s, state.wall_ns)
        self._runs = state.runs

    def _take_up(self, state: State) -> None:
        kept, heads = KeptResults(self._card.outputs), self._meters()
        kept.load(state.kept)
        for meter, said in zip(heads, state.heads, strict=True):
            meter.load(said)
        self._kept, self.heads = kept, heads
        self._earlier, self._window = state.earlier, state.window
        self.answers.update(state.answers)
        self.since_wall_ns = state.since_wall_ns
        self._echoed = np.frombuffer(state.echoed, np.uint64)

    def _outputs(self) -> list[str]:
        return [meter.output for meter in self.heads]

    # --- inside ------------------------------------------------------------------------------------------------------

    def _meters(self) -> list[HeadMeter]:
        hits = {} if self._reference is None else self._reference.hits
        return [
            HeadMeter(head, self._card.labels.get(head.name, ()), hits.get(head.name)) for head in self._card.outputs
        ]

    def _label(self, feedback: Feedback, now: Moment) -> Answer:
        truths = self._truths(feedback)
        at_s = self._roll(now)
        run, seq = self._runs.get(feedback.id.boot_id), feedback.id.seq
        place = None if run is None else self._kept.find(run, seq)
        if place is None:
            return self._echo(feedback, truths, now)
        kept = self._kept.get(place)
        if self._kept.labelled(place):
            return self._answer(feedback, "doubled", "this prediction has a label; the first one counts")
        if at_s - kept.at_s > self._horizon_s:
            return self._late(feedback)
        self._kept.mark(place)
        return self._count(feedback, truths, kept.heads, kept.at_s, now)

    def _echo(self, feedback: Feedback, truths: Mapping[int, Truth], now: Moment) -> Answer:
        """A label for a prediction that is not kept: its message, where it came along, stands in."""
        said, run = feedback.prediction, self._runs.get(feedback.id.boot_id)
        if said is None:
            if run is not None and (self._kept.before(run, feedback.id.seq) or (self._earlier and not len(self._kept))):
                return self._answer(feedback, "late", 'it is no longer kept; send its message along as "prediction"')
            return self._answer(feedback, "unknown", "this device knows of no such prediction")
        name = _name(feedback)
        if said.get("id") != name:
            raise ValueError(f'"prediction" is not the message of {name}')
        model = said.get("model")
        if not isinstance(model, dict) or model.get("sha256") != self._identity.sha256:
            return self._answer(feedback, "late", "it is of another model than the one that runs now")
        age_s = _age_s(said, now)
        if age_s is not None and age_s > self._horizon_s:
            return self._late(feedback)
        heads = self._echoed_heads(said)
        key = np.frombuffer(hashlib.blake2b(name.encode(), digest_size=8).digest(), np.uint64)
        if (self._echoed == key).any():
            return self._answer(feedback, "doubled", "this prediction has a label; the first one counts")
        self._echoed = np.concatenate([self._echoed, key])[-ECHOED_MOST:]
        return self._count(feedback, truths, heads, self._timeline.at_s(now) - (age_s or 0), now)

    def _count(
        self, feedback: Feedback, truths: Mapping[int, Truth], heads: Sequence[HeadResult], at_s: int, now: Moment
    ) -> Answer:
        oldest_s = self._timeline.at_s(now) - self._horizon_s
        verdicts = []
        for number, truth in truths.items():
            verdicts.append(self.heads[number].wrong(truth, heads[number]))
            if not feedback.selected:
                self.heads[number].label(truth, heads[number], at_s, oldest_s, now.wall_ns)
                self._collect(self.heads[number])
        said = [wrong for wrong in verdicts if wrong is not None]
        return Answer(
            _name(feedback), "selected" if feedback.selected else "counted", wrong=any(said) if said else None
        )

    def _truths(self, feedback: Feedback) -> dict[int, Truth]:
        """By the output's number. Raises ValueError."""
        names = [meter.head.name for meter in self.heads]
        found = {}
        for name, value in feedback.labels.items():
            if name == "" and len(names) > 1:
                raise ValueError(f'the model has the outputs {", ".join(names)}: say "labels" with one for each')
            if name and name not in names:
                raise ValueError(f"the model has no such output; it has {', '.join(names)}")
            number = names.index(name) if name else 0
            found[number] = truth_of(value, self.heads[number].head, self.heads[number].labels)
        return found

    def _echoed_heads(self, said: Mapping[str, Any]) -> list[HeadResult]:
        outputs = said.get("outputs")
        if not isinstance(outputs, dict) or any(not isinstance(outputs.get(m.head.name), dict) for m in self.heads):
            raise ValueError('"prediction" has not all outputs of the model')
        return [read_result(meter.head, outputs[meter.head.name]) for meter in self.heads]

    def _late(self, feedback: Feedback) -> Answer:
        return self._answer(feedback, "late", f"it is older than {self._horizon_s} s")

    def _answer(self, feedback: Feedback, result: Result, detail: str) -> Answer:
        return Answer(_name(feedback), result, detail)

    def _collect(self, meter: HeadMeter) -> None:
        for watched in (meter.labelled, meter.estimated):
            self._changes += watched.changes
            watched.changes.clear()

    def _roll(self, now: Moment) -> int:
        at_s = self._timeline.at_s(now)
        window = at_s // self._window_s
        for meter in self.heads:
            meter.roll(window - self._window)
        self._window = window
        return at_s


def _name(feedback: Feedback) -> str:
    return f"{feedback.id.boot_id}-{feedback.id.pipeline}-{feedback.id.seq}"


def _age_s(said: Mapping[str, Any], now: Moment) -> int | None:
    """Of a prediction by its message; None where one of the two clocks was not synchronised."""
    if not now.synced or said.get("clock_synced") is not True:
        return None
    try:
        time = datetime.fromisoformat(str(said.get("time")).replace("Z", "+00:00"))
        return max(0, int(now.wall_ns / 1e9 - time.timestamp()))
    except (ValueError, OverflowError):
        raise ValueError('"prediction" has no time') from None
