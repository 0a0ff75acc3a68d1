"""What a climb from float to integers leaves behind: its rungs, what was chosen, and both as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from converters.quantization.sensitivity import LayerError
from converters.records import Quantized, Scheme

ROUNDING = 1e-9  # 0.94 - 0.93 is a little over 0.01 in floating point


class Measured(Struct, frozen=True):
    """``score``: higher is better, 1 is best. ``agreement``: share of rows with the float model's answer."""

    score: float
    agreement: float | None = None


class Judge(Struct, frozen=True):
    """Who says how good a model is: on which rows (for a person, such as "300 calibration rows"), how many those are
    (0: not said), and what float scores there."""

    evaluate: Callable[[Quantized], Measured]
    reference: float
    rows: str
    count: int = 0

    def drop(self, measured: Measured) -> float:
        """Under float."""
        return self.reference - measured.score

    def standard_error(self, measured: Measured) -> float:
        """Of the drop, at most; 0 where it can't be told. A row whose answer stayed adds nothing to the drop, another
        at most itself: the variance of their mean is no more than their share over the number of rows (the bound of
        McNemar's paired comparison)."""
        if measured.agreement is None or not self.count:
            return 0.0
        return float(((1 - measured.agreement) / self.count) ** 0.5)


class Rung(Struct, frozen=True):
    """One attempt. ``score`` and ``drop`` (under float) are of the selection rows, ``final_score`` and ``final_drop``
    of the final ones, where it came that far. ``float_ops`` by their output tensors. A skipped rung has the reason as
    its verdict and no numbers."""

    name: str
    outcome: Literal["met", "missed", "skipped"]
    verdict: str
    scheme: Scheme | None = None
    score: float | None = None
    drop: float | None = None
    final_score: float | None = None
    final_drop: float | None = None
    agreement: float | None = None
    bytes: int = 0
    float_ops: tuple[str, ...] = ()
    seconds: float = 0.0


class Ladder(Struct, frozen=True):
    """``chosen`` is the number of the rung that met the bound, else of the nearest; None where none could be tried.
    ``quantized`` is its model. ``layers``: what each layer costs, worst first; empty where it was not needed."""

    rungs: tuple[Rung, ...]
    max_drop: float
    met: bool
    chosen: int | None
    quantized: Quantized | None
    layers: tuple[LayerError, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain objects, without the model's bytes."""
        plain: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, quantized=None))
        del plain["quantized"]
        return plain


def ladder_text(ladder: Ladder) -> str:
    """A table for a terminal, one line a rung, the chosen one marked."""
    head = ("", "rung", "score", "drop", "agrees", "in float", "kB", "s", "")
    lines = [head] + [_cells(rung, number == ladder.chosen) for number, rung in enumerate(ladder.rungs)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = (0, 1, len(head) - 1)
    return "\n".join(
        "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(rung: Rung, chosen: bool) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    tried = rung.outcome != "skipped"
    score, drop = (rung.score, rung.drop) if rung.final_score is None else (rung.final_score, rung.final_drop)
    return (
        "*" if chosen else "",
        rung.name,
        number(score, ".4f"),
        number(drop, "+.4f"),
        number(rung.agreement, ".4f"),
        str(len(rung.float_ops)) if tried else "",
        f"{rung.bytes / 1000:.0f}" if tried else "",
        f"{rung.seconds:.1f}" if tried else "",
        rung.verdict if tried else f"skipped: {rung.verdict}",
    )


def verdict(measured: Measured, judge: Judge, bound: float) -> str:
    """Such as "0.9378 on 900 test rows, 0.44 points under float: within 1 point"."""
    drop = judge.drop(measured)
    side = f"{_points(abs(drop))} {'under' if drop > 0 else 'over'} float" if abs(drop) >= 5e-5 else "as float"
    holds = "within" if drop <= bound + ROUNDING else "not within"
    return f"{measured.score:.4f} on {judge.rows}, {side}: {holds} {_points(bound)}"


def _points(value: float) -> str:
    text = f"{value * 100:.2f}".rstrip("0").rstrip(".")
    return f"{text} point" if text == "1" else f"{text} points"
