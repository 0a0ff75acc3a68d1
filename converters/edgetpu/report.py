"""What can be told of a model and the Edge TPU: the prediction, what to do about it, what the compiler made of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from converters.edgetpu.compiler import PROGRAM, WHERE, Compiled, CompilerLog, compile_model
from converters.edgetpu.names import with_names_of
from converters.files import check_output, write_whole
from converters.inspected_file import card_facts, port_specs
from converters.inspection import BackEnd, back_end
from converters.progress import Progress
from converters.records import Written
from converters.tflite.archive import bare_model, with_members
from converters.tflite.arithmetic import arithmetic
from converters.tflite.graph import Graph, read_graph
from converters.tflite.placement import Place, Placement
from converters.tflite.placement_edgetpu import predict_edgetpu
from edge_agent.errors import ConfigError, ModelError
from edge_agent.io.model_file import parse_model, read_model
from edge_agent.io.runtimes.choose import CPU_MEMBER
from edge_agent.records import ModelFile

SCHEMA = "edge-agent/convert-edgetpu/1"


class Advice(Struct, frozen=True):
    """``fix`` concerns ``ops`` ops of its own; those that only come after them are not counted."""

    fix: str
    ops: int


class EdgeTpuReport(Struct, frozen=True):
    """``prediction`` was never checked against the compiler; ``compiler`` is what the real one said, None where it did
    not run, with the reason in ``no_compiler``. ``uncertain``: predicted to be mapped, but the documentation leaves
    it open. ``refused``: why a build was not written though the compiler ran."""

    schema: str
    path: str
    quantisation: str
    compiled: bool
    prediction: BackEnd
    ops: tuple[Place, ...]
    uncertain: tuple[str, ...]
    advice: tuple[Advice, ...]
    compiler: CompilerLog | None = None
    no_compiler: str = ""
    refused: str = ""
    written: Written | None = None


def edgetpu_report(
    path: Path, *, compiler: Path | None, output: Path | None = None, progress: Progress | None = None
) -> EdgeTpuReport:
    """The report on one .tflite; with a compiler also its own counts, with ``output`` the finished build.

    The build holds the compiled model under the names of the one before, all its files, and itself for the CPU.
    Raises ModelError, ConfigError; WorkerFailedError when the compiler fails.
    """
    if output is not None:
        check_output(output)
    file = read_model(path)
    graph = read_graph(file.content)
    report = _static(path, graph)
    if graph.compiled_for_edgetpu:
        if output is not None:
            raise ConfigError(f"{path}: compiled already; name the build for the CPU to compile")
        return report
    if compiler is None:
        if output is not None:
            raise ConfigError(
                f"{PROGRAM} is not on the PATH, so {output} can't be written: {WHERE}; or --compiler PATH"
            )
        return replace(report, no_compiler=f"{PROGRAM} is not on the PATH: {WHERE}")
    bare = bare_model(file.content)
    compiled = compile_model(bare, compiler, progress=progress)
    report = replace(report, compiler=compiled.log)
    if output is None:
        return report
    if not read_graph(compiled.content).compiled_for_edgetpu:
        return replace(report, refused=f"the compiler mapped nothing to the Edge TPU: {output} is not written")
    return replace(report, written=_write(output, file, bare, compiled))


def advice(placement: Placement) -> tuple[Advice, ...]:
    """What to do, the one that concerns most ops first; border conversions last."""
    harmless = {place.fix for place in placement.places if place.border}
    counted = Counter(place.fix for place in placement.places if not place.taken and place.fix)
    ranked = sorted(counted.items(), key=lambda item: (item[0] in harmless, -item[1]))
    return tuple(Advice(fix, count) for fix, count in ranked)


def _static(path: Path, graph: Graph) -> EdgeTpuReport:
    placement = predict_edgetpu(graph)
    return EdgeTpuReport(
        schema=SCHEMA,
        path=str(path),
        quantisation=arithmetic(graph).text,
        compiled=graph.compiled_for_edgetpu,
        prediction=back_end(placement),
        ops=placement.places,
        uncertain=tuple(f"op {p.op} {p.name}: {p.reason}" for p in placement.places if p.taken and p.reason),
        advice=advice(placement),
    )


def _write(output: Path, file: ModelFile, bare: bytes, compiled: Compiled) -> Written:
    if file.notes:
        raise ModelError(f"{file.path}: {'; '.join(file.notes)}; the build would lack that: mend the file first")
    model = with_names_of(compiled.content, bare)
    # appended last: the compiler knows nothing of what is behind a model
    whole = with_members(model, {**file.members, CPU_MEMBER: bare})
    resolved, facts = card_facts(parse_model(whole, output), port_specs(read_graph(whole)))
    before, _ = card_facts(file, port_specs(read_graph(bare)))
    if before is not None and resolved is None:
        raise ModelError(f"{output} is not written: the card does not fit the compiled model: {facts.error}")
    written = write_whole(output, whole)
    return replace(written, notes=(facts.error,)) if facts.error else written
