"""What a model file brings along to measure drift from: its reference, as far as it belongs to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from edge_agent.core.drift.observe import Observer
from edge_agent.core.drift.reference import decode_reference, in_order, matches
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.monitoring import REFERENCE_MEMBER, Reference
from edge_agent.records import TensorSpec


class Carried(Struct, frozen=True):
    """``reference`` None: there is none, or ``fault`` says why it is not used."""

    reference: Reference | None = None
    fault: str = ""


def carried(members: Mapping[str, bytes], card: ResolvedCard, outputs: Sequence[TensorSpec]) -> Carried:
    """``members``: the associated files by name; ``outputs``: every output tensor. A reference that does not fit is no
    reason not to run a model: its features are then in no reference's order, and nothing is compared with it."""
    content = members.get(REFERENCE_MEMBER)
    if content is None:
        return Carried()
    try:
        reference = decode_reference(content)
        specs = Observer(card, outputs, reference.projection).names
    except ModelError as error:
        return Carried(fault=str(error))
    if wrong := matches(reference, specs):
        return Carried(fault="; ".join(wrong))
    return Carried(in_order(reference, [spec.name for spec in specs]))
