"""Keeps samples of one pipeline for labelling and retraining; on the thread of the drift worker.

The store may be slow (a card) or fail (full, read-only): then samples are lost and counted, and nothing else waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from edge_agent.core.drift.bins import FeatureSpec
from edge_agent.core.feedback import Answer, Feedback
from edge_agent.core.sample_choice import Chosen, SampleChoice
from edge_agent.core.strangeness import Strangeness
from edge_agent.core.wire import prediction_body, rfc3339
from edge_agent.errors import StorageError
from edge_agent.monitoring import Moment, Sample
from edge_agent.ports import SampleStore
from edge_agent.records import Array, Flag
from edge_agent.stages.watch import Seen

_NO_READING: Final = frozenset({Flag.MISSING, Flag.FILLED, Flag.INVALID})


class Waiting(Struct, frozen=True):
    """Seen, and when."""

    seen: Seen
    moment: Moment


Choices = dict[str, SampleChoice[Waiting]]


class Sampling:
    """``boot_id`` names the samples of predictions that are not published. ``choices``: of all pipelines that share the
    store, by pipeline; this one adds its ``choice``. ``begin`` comes first."""

    def __init__(
        self, pipeline: str, boot_id: str, store: SampleStore, choices: Choices, choice: SampleChoice[Waiting]
    ) -> None:
        self.kept = self.lost = 0  # since the start
        self._failure = ""  # of the store, when it was asked last
        self._told = ""
        self._pipeline = pipeline
        self._boot_id = boot_id
        self._store = store
        self._choices = choices
        self._strangeness = Strangeness(())
        self._choice = choices[pipeline] = choice

    def begin(self, features: Sequence[FeatureSpec]) -> None:
        """``features``: of the rows. Looks what is kept already. Never raises."""
        self.renew(features)
        before = self._store.set_aside
        try:
            self._choice.take_up(self._store.held(self._pipeline))
            if damaged := self._store.set_aside - before:
                self._failure = f"{damaged} damaged samples were set aside"
        except StorageError as error:
            self._failure = str(error)

    def renew(self, features: Sequence[FeatureSpec]) -> None:
        """Of the model that runs from now on."""
        self._strangeness = Strangeness(features)

    def offer(self, seen: Seen, row: Array, moment: Moment) -> None:
        """Something was seen at ``moment``; ``row`` (F,) is what the observer makes of it."""
        confidence, distance = self._strangeness.confidence(row), self._strangeness.distance(row)
        self._choice.offer(self._id(seen), moment.wall_ns, confidence, distance, Waiting(seen, moment))

    def store(self, now: Moment) -> None:
        """Write what is due; to be called about once a second. Never raises."""
        for chosen in self._choice.due(now.mono_ns, now.wall_ns):
            try:
                if chosen.replaces:
                    self._store.remove(chosen.replaces)
                self._tell_gone(self._store.put(self._sample(chosen), chosen.what.seen.pixels))
                self.kept += 1
                self._failure = ""
            except StorageError as error:
                self.lost += 1
                self._choice.gone([chosen.held.id])
                self._failure = str(error)

    def answered(self, feedback: Feedback, answer: Answer, outputs: list[str], now: Moment) -> None:
        """A label came and was taken: it is put to its sample, where that is kept. Never raises."""
        if answer.result not in ("counted", "selected"):
            return
        try:
            sample = self._store.get(answer.id)
            if sample is None:
                return
            labels = {name or outputs[0]: value for name, value in feedback.labels.items()}
            chosen = self._choice.mislabelled(answer.id, now.wall_ns) if answer.wrong else None
            held = sample.held if chosen is None else chosen.held
            self._store.replace(replace(sample, held=held, labels=sample.labels | labels))
            if chosen is not None and chosen.replaces:
                self._store.remove(chosen.replaces)
        except StorageError as error:
            self._failure = str(error)

    def failure(self) -> str:
        """What to tell of the store, once: why samples are lost; "" where there is nothing new."""
        new = self._failure if self._failure != self._told else ""
        self._told = self._failure
        return new

    def _id(self, seen: Seen) -> str:
        if seen.identity is not None:
            return seen.identity.id(self._pipeline)
        return f"{self._boot_id}-{self._pipeline}-frame{seen.prediction.frame_seq}"

    def _sample(self, chosen: Chosen[Waiting]) -> Sample:
        seen, moment = chosen.what.seen, chosen.what.moment
        card = seen.engine.card
        units = {feature.name: feature.unit for item in card.feature_inputs for feature in item.features}
        return Sample(
            held=chosen.held,
            pipeline=self._pipeline,
            time=rfc3339(moment.wall_ns),
            clock_synced=moment.synced,
            model=seen.prediction.model,
            tensors=tuple(item.tensor for item in card.image_inputs),
            features=_features(seen, units),
            units=units,
            prediction=Raw(prediction_body(seen.prediction, seen.identity)),
        )

    def _tell_gone(self, names: list[str]) -> None:
        if names:
            for choice in self._choices.values():
                choice.gone(names)


def _features(seen: Seen, units: Mapping[str, str]) -> dict[str, float | None]:
    """As the model got them, in the card's units; None where the card's fill value stood in."""
    observation = seen.observation
    found: dict[str, float | None] = {}
    for name in units:
        reading = observation.readings.get(name)
        missing = reading is not None and not _NO_READING.isdisjoint(reading.flags)
        found[name] = None if missing else observation.features.get(name)
    return found
