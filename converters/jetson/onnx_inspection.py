"""What an .onnx says of itself, as values and as text: the answer of ``edge-convert inspect`` for that form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from converters.drift_facts import ReferenceFacts, reference_facts
from converters.inspected_file import CardFacts, Member, card_facts
from converters.inspection import Port, roles_of
from converters.members import bare_model
from edge_agent.core.card_schema import GOLDEN_MEMBER
from edge_agent.core.model_card import ResolvedCard
from edge_agent.errors import ModelError
from edge_agent.io.model_file import read_model
from edge_agent.io.onnx_file import GRAPH, OPSET, fields
from edge_agent.io.runtimes import ONNX_PLAIN, create
from edge_agent.records import TensorSpec

SCHEMA = "edge-agent/convert-inspect-onnx/1"
NODES_MOST = 200_000  # and whatever else a graph holds at its first level
# onnx.proto: fields of OperatorSetIdProto, GraphProto and NodeProto
_DOMAIN, _VERSION = 1, 2
_NODE, _OPERATOR = 1, 4


class OnnxInspection(Struct, frozen=True):
    """Sizes in bytes; ``model_bytes``: without the metadata. ``operations``: how many of each, most frequent first.
    ``quantised``: it has QuantizeLinear and DequantizeLinear pairs."""

    schema: str
    path: str
    sha256: str
    file_bytes: int
    model_bytes: int
    members: tuple[Member, ...]
    notes: tuple[str, ...]
    card: CardFacts
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    runtime: str
    opset: int
    quantised: bool
    operations: dict[str, int]
    golden: bool
    drift: ReferenceFacts | None


def inspect_onnx(path: Path) -> OnnxInspection:
    """Raises ModelError where the file is no ONNX model or is refused by ONNX Runtime, ConfigError without it."""
    file = read_model(path)
    runtime = create(file.content, ONNX_PLAIN, threads=1, external={})
    resolved, card = card_facts(file, (list(runtime.inputs), list(runtime.outputs)))
    try:
        opset, operations = _graph(file.content)
    except ValueError as error:
        raise ModelError(f"{path}: its graph can't be read: {error}") from None
    found = OnnxInspection(
        schema=SCHEMA,
        path=str(path),
        sha256=file.sha256,
        file_bytes=len(file.content),
        model_bytes=len(bare_model(file)),
        members=tuple(Member(name, len(content)) for name, content in file.members.items()),
        notes=file.notes,
        card=card,
        inputs=_ports(runtime.inputs, resolved),
        outputs=_ports(runtime.outputs, resolved),
        runtime=runtime.info.runtime,
        opset=opset,
        quantised="QuantizeLinear" in operations,
        operations=dict(operations.most_common()),
        golden=GOLDEN_MEMBER in file.members,
        drift=reference_facts(file.members, resolved, runtime.outputs),
    )
    runtime.close()
    return found


def onnx_text(found: OnnxInspection) -> str:
    """For a person."""
    card = found.card
    named = f"{card.name} {card.version}".strip() or "no name"
    scheme = "int8 with QDQ pairs" if found.quantised else "not quantised"
    lines = [
        f"{found.path}: {named}, ONNX opset {found.opset}, {scheme}",
        f"  {found.file_bytes} bytes ({found.model_bytes} of them the model), sha256 {found.sha256[:12]}",
    ]
    for side, ports in (("input", found.inputs), ("output", found.outputs)):
        lines += [f"  {side:<7} {port.name}  {port.dtype} {list(port.shape or ())}  {port.role}" for port in ports]
    lines.append(f"  ops     {', '.join(f'{count} {name}' for name, count in found.operations.items())}")
    lines += [f"  member  {member.name}, {member.bytes} bytes" for member in found.members]
    lines.append(f"  runs    here by {found.runtime} on the processor; on a Jetson by its GPU build")
    problems = [f"card: {card.error}"] if card.error else []
    missing = [] if found.golden else ["no golden samples: a device does not take it over the air"]
    lines += [f"  note: {note}" for note in (*problems, *found.notes, *card.notes, *missing)]
    return "\n".join(lines)


def _graph(content: bytes) -> tuple[int, Counter[str]]:
    """The version of the default operator set, and the operators of the graph itself. Raises ValueError."""
    opset, operations = 0, Counter[str]()
    for part in fields(content):
        if part.number == OPSET:
            said = {item.number: item for item in fields(content, part.start, part.end)}
            if _DOMAIN not in said or said[_DOMAIN].start == said[_DOMAIN].end:
                opset = said[_VERSION].value if _VERSION in said else 0
        elif part.number == GRAPH:
            for node in fields(content, part.start, part.end, most=NODES_MOST):
                if node.number == _NODE:
                    operations += Counter(
                        content[item.start : item.end].decode()
                        for item in fields(content, node.start, node.end)
                        if item.number == _OPERATOR
                    )
    return opset, operations


def _ports(specs: Sequence[TensorSpec], card: ResolvedCard | None) -> tuple[Port, ...]:
    roles = roles_of(card)
    return tuple(
        Port(
            spec.name,
            spec.name,
            roles.get(spec.name, "not used" if roles else "unknown"),
            spec.shape,
            spec.dtype.name,
            None,
            None,
        )
        for spec in specs
    )
