"""Where each op of a graph would run: on the accelerator, or on the CPU with the reason in one phrase.

A prediction follows the rules that a back-end's documentation or source gives; XNNPACK alone can also be measured
here, by asking the interpreter what its delegate took.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from converters.tflite.graph_costs import op_costs
from converters.tflite.graph_values import Graph

Target = Literal["xnnpack", "edgetpu", "gpu"]


class Place(Struct, frozen=True):
    """One op. ``reason`` says why it is not taken, or what is uncertain where it is; ``fix`` what to do about it.
    ``border``: it only converts the model's own input or output, and is no obstacle to the others."""

    op: int
    name: str
    taken: bool
    reason: str = ""
    fix: str = ""
    border: bool = False
    macs: int = 0


class Left(Struct, frozen=True):
    """Ops of one kind that stay on the CPU for one reason."""

    name: str
    count: int
    reason: str
    fix: str = ""


class Placement(Struct, frozen=True):
    """``measured``: found by running this machine's interpreter, else predicted. ``basis`` says from what."""

    target: Target
    measured: bool
    basis: str
    places: tuple[Place, ...]

    @property
    def taken(self) -> int:
        return sum(place.taken for place in self.places)

    @property
    def share(self) -> float:
        """Of all ops, those taken; 0 for a graph without ops."""
        return self.taken / len(self.places) if self.places else 0.0

    @property
    def macs_share(self) -> float:
        """Of all multiply-accumulates, those of the ops taken; of the ops themselves where none multiplies."""
        total = sum(place.macs for place in self.places)
        return sum(place.macs for place in self.places if place.taken) / total if total else self.share

    @property
    def first_left(self) -> Place | None:
        """The first op that stays on the CPU, conversions at the border apart."""
        return next((place for place in self.places if not place.taken and not place.border), None)

    def left(self) -> tuple[Left, ...]:
        """What stays on the CPU, alike ones together, in the graph's order."""
        found = Counter((place.name, place.reason, place.fix) for place in self.places if not place.taken)
        return tuple(Left(name, count, reason, fix) for (name, reason, fix), count in found.items())


class Verdict(Struct, frozen=True):
    """What a back-end's rules say of one op."""

    taken: bool
    reason: str = ""
    fix: str = ""
    border: bool = False


def placement(target: Target, basis: str, graph: Graph, verdicts: Sequence[Verdict], *, measured: bool) -> Placement:
    """Verdicts of the main subgraph's ops, in order, as a placement."""
    costs = op_costs(graph.main)
    places = tuple(
        Place(op.index, op.name, verdict.taken, verdict.reason, verdict.fix, verdict.border, cost.macs)
        for op, verdict, cost in zip(graph.main.ops, verdicts, costs, strict=True)
    )
    return Placement(target, measured, basis, places)
