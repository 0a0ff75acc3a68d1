"""The way down from float to integers that keeps the loss within a bound: one rung after the other, all recorded.

Cheapest and most integer first: int8; int8 with other calibrations; the fewest ops in float; retraining.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Literal, get_args

from msgspec import Struct

from converters.datasets.splits import spread
from converters.progress import Progress, Silent
from converters.quantization.borders import Border
from converters.quantization.calibration import Calibration, Method, Range, calibrate, pins_of, states_of
from converters.quantization.quantize import quantize
from converters.quantization.rungs import ROUNDING, Judge, Ladder, Measured, Rung, ladder_text, verdict
from converters.quantization.sensitivity import LayerError, rank_layers
from converters.records import FloatModel, Quantized, Scheme, Tensors
from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from converters.workbench import Workbench

__all__ = ["STEPS", "Judge", "Ladder", "Measured", "Rung", "Wanted", "climb", "ladder_text", "selection_rows"]

Step = Literal["calibration", "mixed", "qat"]
STEPS: tuple[Step, ...] = get_args(Step)
CALIBRATION_ROWS = 300
SELECTION_ROWS = 600
_FRESH_ENOUGH = 200
_OTHER_METHODS: tuple[Method, ...] = ("mse", "percentile")
_INTEGERS_ONLY = "the target runs integers only"
_NOT_ALLOWED = "not asked for"
_TRAINING = "quantisation-aware training"


class Wanted(Struct, frozen=True):
    """``max_drop``: of the score, 0 to 1, under float. ``allow``: the steps after plain int8. ``keep_float``: ops that
    stay float on every rung."""

    max_drop: float
    target_int8_only: bool = False
    allow: frozenset[str] = frozenset(STEPS)
    keep_float: tuple[str, ...] = ()
    io: Border = "int8"


def selection_rows(calibration: Sequence[int], used: Collection[int]) -> Sequence[int]:
    """Rows of the calibration split to select on: those that no range was measured on (``used``), where there are 200,
    else all of them (a range sees no label, so little is lost). At most 600, spread evenly."""
    taken = set(used)
    fresh = [row for row in calibration if row not in taken]
    return spread(fresh if len(fresh) >= _FRESH_ENOUGH else calibration, SELECTION_ROWS)


def climb(  # noqa: PLR0913  # what a command's options say, each by its name
    bench: Workbench,
    *,
    max_drop: float,
    selection: Judge,
    final: Judge | None = None,
    target_int8_only: bool = False,
    allow: Collection[str] = STEPS,
    keep_float: Collection[str] = (),
    io: Border = "int8",
    retrain: Callable[[], Quantized] | None = None,
    no_retrain: str = "no training code is known for this source",
    progress: Progress | None = None,
) -> Ladder:
    """Stop at the first rung whose score is no more than ``max_drop`` (0..1) under float.

    Every choice is made on ``selection``'s rows. ``final``, the test rows, only confirms what was chosen: the best of
    many attempts on the test rows would look better there than it is. A choice that it does not confirm is a missed
    rung, and the climb goes on. ``keep_float``: ops that stay float on every rung, such as a model's own
    normalisation. ``retrain`` makes the last rung; ``no_retrain`` says why there is none. Raises ConfigError,
    ModelError.
    """
    from converters.arrays import calibration_samples

    card = bench.float_model.card
    rows = tuple(calibration_samples(bench.arrays("calibration", CALIBRATION_ROWS)))
    wanted = Wanted(max_drop, target_int8_only, frozenset(allow), tuple(keep_float), io)
    samples = Samples(rows, pins_of(card), states_of(card))
    return Climb(bench.source, samples, wanted, selection, final, retrain or no_retrain, progress or Silent()).run()


class Samples(Struct, frozen=True):
    """What ``calibrate`` takes: rows as float32 by input name, given ranges, loops of states."""

    rows: tuple[Tensors, ...]
    pins: Mapping[str, Range]
    states: Mapping[str, str] = {}


@dataclass
class Climb:
    """One climb, without a workbench. ``retrain`` makes the last rung, or is the reason why there is none."""

    source: FloatModel
    samples: Samples
    wanted: Wanted
    selection: Judge
    final: Judge | None
    retrain: Callable[[], Quantized] | str
    progress: Progress
    rungs: list[Rung] = field(default_factory=list)
    made: dict[int, Quantized] = field(default_factory=dict)  # by number of the rung
    layers: tuple[LayerError, ...] = ()
    calibrations: dict[Method, Calibration] = field(default_factory=dict)

    def run(self) -> Ladder:
        steps: dict[str, Callable[[], bool]] = {
            "int8": lambda: self._int8("min-max"),
            "calibration": lambda: any(self._int8(method) for method in _OTHER_METHODS),
            "mixed": self._mixed,
            "qat": self._retrained,
        }
        met = any(
            self._skip(name, _NOT_ALLOWED) if name in STEPS and name not in self.wanted.allow else step()
            for name, step in steps.items()
        )
        chosen = self._nearest()
        quantized = None if chosen is None else self.made[chosen]
        return Ladder(tuple(self.rungs), self.wanted.max_drop, met, chosen, quantized, self.layers)

    def _int8(self, method: Method) -> bool:
        started = perf_counter()
        made = self._quantized(method, ())
        return self._record(f"int8, {method}", made, self.selection.evaluate(made), started)

    def _retrained(self) -> bool:
        if isinstance(self.retrain, str):
            return self._skip(_TRAINING, self.retrain)
        started = perf_counter()
        try:
            made = self.retrain()
        except EdgeAgentError as error:  # the other rungs stay: which was nearest is worth knowing
            return self._skip(_TRAINING, str(error))
        return self._record(_TRAINING, made, self.selection.evaluate(made), started)

    def _mixed(self) -> bool:
        """The worst layers in float, one, two, four and so on; once that is enough, back to those that are needed."""
        if self.wanted.target_int8_only:
            return self._skip("mixed", _INTEGERS_ONLY)
        started = perf_counter()
        method = self._best_method()
        self.layers = rank_layers(self.source, self.calibrations[method], self.samples.rows, progress=self.progress)
        names = [layer.name for layer in self.layers if layer.name not in self.wanted.keep_float]
        known: dict[tuple[str, ...], tuple[Quantized, Measured]] = {}
        recorded: set[tuple[str, ...]] = set()  # growing sets may be pruned to the same

        def tried(kept: tuple[str, ...]) -> tuple[Quantized, Measured]:
            if kept not in known:
                made = self._quantized(method, kept)
                known[kept] = (made, self.selection.evaluate(made))
            return known[kept]

        def within(kept: tuple[str, ...]) -> bool:
            return self._may_hold(tried(kept)[1])

        with self.progress.step("fewest layers in float", len(names)) as advance:
            for size in _doubling(len(names) - 1):
                advance(size)
                kept = tuple(names[:size])
                if within(kept):
                    for candidate in [
                        one for one in dict.fromkeys((_pruned(kept, within), kept)) if one not in recorded
                    ]:
                        recorded.add(candidate)
                        if self._record(_mixed_name(candidate), *tried(candidate), started):
                            return True
        if known and not any(within(kept) for kept in known):
            best = max(known, key=lambda kept: known[kept][1].score)
            self._record(_mixed_name(best), *known[best], started)
        return False

    def _quantized(self, method: Method, kept: Collection[str]) -> Quantized:
        if method not in self.calibrations:
            self.calibrations[method] = calibrate(
                self.source.content,
                self.samples.rows,
                method=method,
                pins=self.samples.pins,
                states=self.samples.states,
                progress=self.progress,
            )
        floats = (*self.wanted.keep_float, *kept)
        scheme: Scheme = "mixed" if floats else "int8"
        return quantize(
            self.source, scheme, calibration=self.calibrations[method], keep_float=floats, io=self.wanted.io
        )

    def _best_method(self) -> Method:
        scores = {rung.name: rung.score or 0.0 for rung in self.rungs if rung.score is not None}
        return max(self.calibrations, key=lambda method: scores[f"int8, {method}"])

    def _record(self, name: str, made: Quantized, measured: Measured, started: float) -> bool:
        bound = self.wanted.max_drop
        drop = self.selection.drop(measured)
        met, text = self._holds(drop), verdict(measured, self.selection, bound)
        final, final_drop = None, None
        if self.final is not None and self._may_hold(measured):
            final = self.final.evaluate(made)
            final_drop = self.final.drop(final)
            met, text = self._holds(final_drop), verdict(final, self.final, bound)
        if self.wanted.target_int8_only and made.float_ops:
            met, text = False, f"{len(made.float_ops)} ops have no integer form, and {_INTEGERS_ONLY}"
        self.made[len(self.rungs)] = made
        self.rungs.append(
            Rung(
                name=name,
                outcome="met" if met else "missed",
                verdict=text,
                scheme=made.scheme,
                score=measured.score,
                drop=drop,
                final_score=final.score if final else None,
                final_drop=final_drop,
                agreement=(final or measured).agreement,
                bytes=len(made.content),
                float_ops=tuple(made.float_ops),
                seconds=perf_counter() - started,
            )
        )
        return met

    def _skip(self, name: str, reason: str) -> bool:
        self.rungs.append(Rung(name, "skipped", reason))
        return False

    def _holds(self, drop: float) -> bool:
        return drop <= self.wanted.max_drop + ROUNDING

    def _may_hold(self, measured: Measured) -> bool:
        """On the selection rows; a miss within their standard error is left to the final rows, where there are some.
        A few hundred rows can't tell one point, and a rung further down costs more than a look."""
        doubt = self.selection.standard_error(measured) if self.final is not None else 0.0
        return self._holds(self.selection.drop(measured) - doubt)

    def _nearest(self) -> int | None:
        """The rung that met the bound, else that with the least drop; one that was confirmed counts by that."""

        def order(number: int) -> tuple[bool, float]:
            rung = self.rungs[number]
            drop = rung.drop if rung.final_drop is None else rung.final_drop
            return rung.outcome != "met", drop if drop is not None else float("inf")

        return min(self.made, key=order, default=None)


def _mixed_name(kept: Sequence[str]) -> str:
    return f"mixed, {len(kept)} layer{'s' if len(kept) > 1 else ''} in float"


def _doubling(most: int) -> Iterator[int]:
    size = 1
    while size < most:
        yield size
        size *= 2
    if most > 0:
        yield most


def _pruned(kept: tuple[str, ...], within: Callable[[tuple[str, ...]], bool]) -> tuple[str, ...]:
    """Without those, the least harmful first, that are not needed."""
    for name in reversed(kept):
        fewer = tuple(other for other in kept if other != name)
        if fewer and within(fewer):
            kept = fewer
    return kept
