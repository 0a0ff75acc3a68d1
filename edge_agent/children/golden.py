"""The golden samples inside a model file, run on an engine that is ready: by the child that examines it, and once more
by the daemon on the back-end that will really run (an Edge TPU belongs to the daemon alone)."""

from __future__ import annotations

from pathlib import Path

from edge_agent.assembly import LoadedModel
from edge_agent.core.golden import GoldenResult, run_golden
from edge_agent.core.rollout_steps import Evidence
from edge_agent.errors import EdgeAgentError, UpdateError
from edge_agent.io.golden_file import GoldenSamples, read_golden
from edge_agent.io.model_file import parse_model
from edge_agent.io.runtimes.choose import CPU_MEMBER
from edge_agent.records import Crossing
from edge_agent.rollouts import Reason


def golden_of(model: LoadedModel) -> tuple[GoldenSamples, GoldenResult]:
    """Run them all. Raises ModelError where there are none, they are of another model or a run fails, DecodeError where
    the card can't read the outputs."""
    file, engine, path = model.file, model.engine, Path(model.file.path)
    members = file.members
    if file.form == "edgetpu" and CPU_MEMBER in members:
        members = {**members, **parse_model(members[CPU_MEMBER], path).members}
    golden = read_golden(members, path)
    found = run_golden(golden.inputs, golden.outputs, engine.runtime.invoke, engine.card, engine.runtime.outputs)
    for row in range(found.samples):
        engine.decode({name: rows[row] for name, rows in golden.outputs.items()}, Crossing(), None)
    return golden, found


def difference(model: LoadedModel, found: GoldenResult) -> str:
    """One clause for a person: what was found, and what is allowed."""
    return (
        f"of {found.samples} golden samples {found.changed} have another best class, and outputs are up to "
        f"{found.worst_lsb} steps off where {model.engine.card.golden.tolerance_lsb} are allowed"
    )


def golden_evidence(found: GoldenResult) -> Evidence:
    return {"golden_samples": found.samples, "golden_worst_lsb": found.worst_lsb}


def require_golden(model: LoadedModel) -> Evidence:
    """For the daemon, before the swap. Raises UpdateError."""
    try:
        _, found = golden_of(model)
    except EdgeAgentError as error:
        raise UpdateError(Reason.GOLDEN, str(error), final=True) from None
    if not found.ok:
        delegate = model.engine.runtime.info.delegate
        raise UpdateError(Reason.GOLDEN, f"on {delegate}: {difference(model, found)}", final=True)
    return golden_evidence(found)
