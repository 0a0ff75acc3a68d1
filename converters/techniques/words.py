"""Sentences about a comparison: only what was measured, with its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from converters.evaluation.measures import NOTHING, number
from converters.evaluation.text import Page
from converters.techniques.comparison import Comparison, Variant


def scores(comparison: Comparison, other: str) -> tuple[str, ...]:
    """The main variant's score against another's, as int8, and whether the difference means anything; nothing where no
    row has a label."""
    if other not in comparison.losses:
        return ()
    main, beside = comparison.variant(comparison.main), comparison.variant(other)
    return (
        f"{comparison.score_name} as int8 {number(main.score)}, {beside.text} {number(beside.score)}: "
        f"{main.score - beside.score:+.4f}{chance(comparison, other)}",
    )


def chance(comparison: Comparison, other: str) -> str:
    """ " (may be chance: …)" or the interval, in brackets."""
    loss = comparison.losses.get(other)
    if loss is None:
        return ""
    interval = f"{loss.confidence:.0%} interval {-loss.high:+.4f} to {-loss.low:+.4f}"
    return f" ({interval}: may be chance)" if loss.by_chance else f" ({interval})"


def kilobytes(before: Variant, after: Variant, size: str) -> str:
    """``size`` is a field of Cost."""
    old, new = getattr(before.cost, size), getattr(after.cost, size)
    return f"{new / 1000:.1f} kB, before {old / 1000:.1f} kB ({new / old - 1:+.0%})"


def latencies(before: Variant, after: Variant) -> str:
    old, new = before.cost.p50_ms, after.cost.p50_ms
    return f"{new:.3f} ms a run on this machine, before {old:.3f} ms ({new / old - 1:+.0%})"


def counted(count: int, what: str) -> str:
    """ "1 epoch", "4 epochs"."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def show(page: Page, comparison: Comparison, said: Iterable[str]) -> None:
    """The table of variants, and the sentences."""
    page.line(f"int8, {comparison.score_name} on {comparison.rows} test rows", strong=True)
    header = ["model", "parameters", "float", "int8", "change", "agrees", "file kB", "compressed kB", "p50 ms"]
    first = comparison.variants[0]
    page.table(header, [_row(variant, first) for variant in comparison.variants])
    for line in said:
        page.line(f"- {line}")
    page.line(f"- {first.cost.caveat}")


def _row(variant: Variant, first: Variant) -> Sequence[str]:
    return [
        variant.text,
        str(variant.parameters),
        number(variant.float_score),
        number(variant.score),
        NOTHING if variant is first else f"{variant.score - first.score:+.4f}",
        number(variant.agreement),
        f"{variant.cost.model_bytes / 1000:.1f}",
        f"{variant.cost.deflated_bytes / 1000:.1f}",
        f"{variant.cost.p50_ms:.3f}",
    ]
