"""Numbers in words, the same everywhere in a report."""

from __future__ import annotations

import numpy as np

from edge_agent.records import TensorSpec

THIN = "\N{NARROW NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
NOTHING = "\N{EN DASH}"  # where there is no value


def score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4f}".replace("-", MINUS)


def signed(value: float | None) -> str:
    """A difference; the sign is never left out, so that no colour is needed to read it."""
    if value is None:
        return NOTHING
    return "±0" if abs(value) < 5e-5 else f"{value:+.4f}".replace("-", MINUS)


def number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.4g}".replace("-", MINUS)


def kilobytes(octets: int) -> str:
    """10^3 bytes, as a download is counted."""
    return f"{octets / 1e6:.2f} MB" if octets >= 1e6 else f"{octets / 1e3:.1f} kB"


def milliseconds(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def percent(share: float) -> str:
    """Only what is all is called 100 %."""
    if 0.999 <= share < 1:
        return f"99.9{THIN}%"
    return f"{100 * share:.1f}".removesuffix(".0") + f"{THIN}%"


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}".replace(",", THIN)


def shape(dimensions: tuple[int, ...]) -> str:
    return f" {TIMES} ".join("any" if size < 0 else str(size) for size in dimensions) or "scalar"


def quantization(spec: TensorSpec) -> str:
    """How the tensor's numbers stand for real ones, and which real ones they reach."""
    if not spec.scale:
        return "real values" if spec.dtype.kind == "f" else "whole numbers"
    held = np.iinfo(spec.dtype)
    low, high = ((end - spec.zero_point) * spec.scale for end in (held.min, held.max))
    shift = f"q {'+' if spec.zero_point < 0 else MINUS} {abs(spec.zero_point)}" if spec.zero_point else "q"
    return f"({shift}) {TIMES} {spec.scale:.5g}, from {number(low)} to {number(high)}"
