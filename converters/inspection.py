"""What a .tflite says of itself and what can be told from it, as values: the answer of ``edge-convert inspect``."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from converters.drift_facts import ReferenceFacts, reference_facts
from converters.inspected_file import (
    CardFacts,
    Member,
    MetadataFacts,
    card_facts,
    metadata_facts,
    open_file,
    port_shape,
    port_specs,
)
from converters.tflite.arithmetic import FloatOp, activation_type, arithmetic, weight_type
from converters.tflite.graph import Graph, read_graph
from converters.tflite.graph_costs import Cost, op_costs, parameters
from converters.tflite.own_normalisation import find_own_normalisation
from converters.tflite.placement import Left, Place, Placement
from converters.tflite.placement_edgetpu import predict_edgetpu
from converters.tflite.placement_gpu import predict_gpu
from converters.tflite.placement_xnnpack import measure_xnnpack, predict_xnnpack
from edge_agent.core.card_schema import GOLDEN_MEMBER, DetectionOutput
from edge_agent.core.model_card import ResolvedCard
from edge_agent.io.runtimes.choose import CPU_MEMBER

SCHEMA = "edge-agent/convert-inspect/1"


class Port(Struct, frozen=True):
    """An input or output. ``name`` is what callers use, ``role`` from the card, "unknown" where nothing says it.
    ``shape`` has -1 where a run decides; None: a custom op decides, the file does not say."""

    name: str
    tensor: str
    role: str
    shape: tuple[int, ...] | None
    dtype: str
    scale: float | None
    zero_point: int | None


class Operations(Struct, frozen=True):
    """Ops of one kind. ``dtype``: what they compute in; ``weights``: the type of their trained constants."""

    name: str
    dtype: str
    weights: str
    count: int
    constant_bytes: int
    macs: int


class Layer(Struct, frozen=True):
    """One op. ``tensor`` names its first output; ``constant_bytes`` as in graph_costs."""

    op: int
    name: str
    tensor: str
    dtype: str
    constant_bytes: int
    macs: int


class BackEnd(Struct, frozen=True):
    """Where ops run. ``measured`` here with the real interpreter, else predicted from ``basis``; ``problem``: why it
    was not measured. Shares are of ops and of multiply-accumulates."""

    target: str
    measured: bool
    basis: str
    taken: int
    ops: int
    share: float
    macs_share: float
    first_left: Place | None
    left: tuple[Left, ...]
    problem: str = ""


class Inspection(Struct, frozen=True):
    """Sizes in bytes. ``layers`` in the graph's order. ``notes``: what is damaged or odd."""

    schema: str
    path: str
    sha256: str
    file_bytes: int
    flatbuffer_bytes: int | None
    members: tuple[Member, ...]
    notes: tuple[str, ...]
    card: CardFacts
    metadata: MetadataFacts
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    signatures: tuple[str, ...]
    description: str
    minimum_runtime: str
    quantisation: str
    scheme: str
    float_ops: tuple[FloatOp, ...]
    own_normalisation: tuple[str, ...]
    operations: tuple[Operations, ...]
    parameters: int
    macs: int
    layers: tuple[Layer, ...]
    compiled_for_edgetpu: bool
    cpu_build: bool
    golden: bool
    drift_reference: bool
    drift: ReferenceFacts | None
    back_ends: tuple[BackEnd, ...]


def inspect(path: Path, *, measure: bool = True) -> Inspection:
    """Damage to card, metadata or zip is reported. ``measure``: ask the interpreter, in a child process, what XNNPACK
    takes. Raises ModelError where the file is no model or its graph can't be read."""
    opened = open_file(path)
    graph = read_graph(opened.file.content)
    resolved, card = card_facts(opened.file, port_specs(graph), opened.card_problem)
    roles = roles_of(resolved)
    numbers, costs = arithmetic(graph), op_costs(graph.main)
    names = {member.name for member in opened.members}
    drift = reference_facts(opened.file.members, resolved, port_specs(graph)[1])
    return Inspection(
        schema=SCHEMA,
        path=str(path),
        sha256=opened.file.sha256,
        file_bytes=len(opened.file.content),
        flatbuffer_bytes=opened.flatbuffer_bytes,
        members=opened.members,
        notes=(*opened.file.notes, *_oddities(graph)),
        card=card,
        metadata=metadata_facts(opened.file.content),
        inputs=_ports(graph, graph.names()[0], roles),
        outputs=_ports(graph, graph.names()[1], roles),
        signatures=tuple(signature.key for signature in graph.signatures),
        description=graph.description,
        minimum_runtime=graph.minimum_runtime,
        quantisation=numbers.text,
        scheme=numbers.kind,
        float_ops=numbers.float_ops,
        own_normalisation=_own_normalisation(graph, resolved),
        operations=_operations(graph, costs),
        parameters=parameters(graph.main),
        macs=sum(cost.macs for cost in costs),
        layers=_layers(graph, costs),
        compiled_for_edgetpu=graph.compiled_for_edgetpu,
        cpu_build=CPU_MEMBER in names,
        golden=GOLDEN_MEMBER in names,
        drift_reference=drift is not None,
        drift=drift,
        back_ends=_back_ends(graph, measure),
    )


def back_end(placement: Placement, problem: str = "") -> BackEnd:
    """A placement for reports."""
    return BackEnd(
        target=placement.target,
        measured=placement.measured,
        basis=placement.basis,
        taken=placement.taken,
        ops=len(placement.places),
        share=round(placement.share, 4),
        macs_share=round(placement.macs_share, 4),
        first_left=placement.first_left,
        left=placement.left(),
        problem=problem,
    )


def _back_ends(graph: Graph, measure: bool) -> tuple[BackEnd, ...]:
    measured = measure_xnnpack(graph) if measure else "not asked for"
    if isinstance(measured, str):
        xnnpack = back_end(predict_xnnpack(graph), f"not measured here: {measured}")
    else:
        xnnpack = back_end(measured)
    return xnnpack, back_end(predict_edgetpu(graph)), back_end(predict_gpu(graph))


def _oddities(graph: Graph) -> list[str]:
    notes = []
    if len(graph.subgraphs) > 1:
        notes.append(f"{len(graph.subgraphs)} subgraphs: only the first is looked at here")
    if sparse := sum(tensor.sparse for tensor in graph.main.tensors):
        notes.append(
            f"{sparse} constants are stored sparse: they are unpacked before use, and wrong with int8 activations"
        )
    return notes


def roles_of(resolved: ResolvedCard | None) -> dict[str, str]:
    """By the names of inputs and outputs."""
    if resolved is None:
        return {}
    roles = {item.tensor: f"image, {item.color}" for item in resolved.image_inputs}
    for item in resolved.feature_inputs:
        roles[item.tensor] = f"{len(item.features)} feature{'s' if len(item.features) > 1 else ''}"
    for state in resolved.state_inputs:
        roles |= {state.tensor: f"state from {state.source}", state.source: f"state for {state.tensor}"}
    for head in resolved.outputs:
        if isinstance(head, DetectionOutput):
            parts = {head.boxes: "boxes", head.classes: "classes", head.scores: "scores", head.count: "count"}
            roles |= {tensor: f"detection {head.name!r}: {part}" for tensor, part in parts.items()}
        else:
            task = type(head).__name__.removesuffix("Output").lower()
            labels = len(resolved.labels.get(head.name, ()))
            roles[head.tensor] = f"{task} {head.name!r}" + (f", {labels} labels" if labels else "")
    return roles


def _ports(graph: Graph, names: dict[int, str], roles: dict[str, str]) -> tuple[Port, ...]:
    ports = []
    for index, name in names.items():
        tensor = graph.main.tensors[index]
        scale = tensor.scales[0] if tensor.scales else None
        zero = (tensor.zero_points or (0,))[0] if tensor.scales else None
        role = roles.get(name, "not used" if roles else "unknown")
        ports.append(Port(name, tensor.name, role, port_shape(graph, index), tensor.dtype, scale, zero))
    return tuple(ports)


def _own_normalisation(graph: Graph, resolved: ResolvedCard | None) -> tuple[str, ...]:
    if resolved is None:
        return ()
    features = [item.tensor for item in resolved.feature_inputs]
    images = [item.tensor for item in resolved.image_inputs]
    return tuple(found.text() for found in find_own_normalisation(graph, features, images))


def _layers(graph: Graph, costs: tuple[Cost, ...]) -> tuple[Layer, ...]:
    layers = []
    for op, cost in zip(graph.main.ops, costs, strict=True):
        made = graph.main.of(op.outputs)
        dtype = activation_type(graph.main, op)
        layers.append(Layer(op.index, op.name, made[0].name if made else "", dtype, cost.constant_bytes, cost.macs))
    return tuple(layers)


def _operations(graph: Graph, costs: tuple[Cost, ...]) -> tuple[Operations, ...]:
    """Most frequent first."""
    grouped: dict[tuple[str, str, str], list[Cost]] = {}
    for op, cost in zip(graph.main.ops, costs, strict=True):
        key = (op.name, activation_type(graph.main, op), weight_type(graph.main, op))
        grouped.setdefault(key, []).append(cost)
    rows = [
        Operations(*key, len(group), sum(cost.constant_bytes for cost in group), sum(cost.macs for cost in group))
        for key, group in grouped.items()
    ]
    return tuple(sorted(rows, key=lambda row: -row.count))
