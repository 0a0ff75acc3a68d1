"""The examination of a model that is to run here: everything that can be known before its first sample.

A child does it (verify_child.py), in this order: hash, parse, back-end, card, fit with the pipelines, golden samples,
latency, memory.
"""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
from msgspec import Struct, field

from edge_agent import limits
from edge_agent.children.process import MEMORY_MOST_MB, Ended, memory_most_mb, spawn, wait
from edge_agent.children.requirements import Place, Requirements, requirements_of
from edge_agent.core.rollout_steps import Evidence
from edge_agent.errors import UpdateError
from edge_agent.io.runtimes import BACKENDS, PLAIN
from edge_agent.rollouts import Reason

__all__ = ["Place", "RefusedModelError", "Requirements", "requirements_of", "verify_model"]

REST_S = 60.0  # beside the trials of back-ends, each of which may hang


class RefusedModelError(UpdateError):
    """``evidence``: what was measured until then."""

    def __init__(self, reason: Reason, message: str, *, final: bool, evidence: Evidence) -> None:
        super().__init__(reason, message, final=final)
        self.evidence = evidence


class Examination(Struct, frozen=True):
    """What the child is asked. ``memory_most_mb``: it may grow by so much (10^6 bytes)."""

    path: Path
    requirements: Requirements
    memory_most_mb: float


class Verdict(Struct, frozen=True):
    """What it answers. ``reason`` None: the model is good."""

    reason: Reason | None
    detail: str = ""
    final: bool = True
    evidence: Evidence = field(default_factory=dict)


def verify_model(
    path: Path,
    requirements: Requirements,
    *,
    timeout_s: float | None = None,
    stop: threading.Event | None = None,
) -> Evidence:
    """Examine the file in a child and wait for its verdict, by default as long as the trials of all its back-ends may
    take; ``stop`` ends that within about a second. The evidence has delegate, load_ms, golden_samples,
    golden_worst_lsb, p50_ms, p95_ms, runs and memory_mb.

    Raises UpdateError, RefusedModelError where the child said something; ``final`` unless the world is at fault (wrong
    bytes on the disk, no memory left, no process left; stopped: WITHDRAWN).
    """
    most_mb = memory_most_mb()
    child = spawn("edge_agent.children.verify_child", Examination(path.absolute(), requirements, most_mb))
    ended = wait(child, _time_of(requirements) if timeout_s is None else timeout_s, stop)
    try:
        verdict = msgspec.json.decode(ended.out, type=Verdict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _died(ended, most_mb) from None
    if verdict.reason is not None:
        raise RefusedModelError(
            verdict.reason, _naming(path, verdict.detail), final=verdict.final, evidence=verdict.evidence
        )
    return verdict.evidence


def _time_of(requirements: Requirements) -> float:
    """Seconds. TensorRT may build its engine for minutes."""
    declared = requirements.place.request.order if requirements.place else ()
    trials = [BACKENDS[name].trial_s if name in BACKENDS else limits.PROBE_TIMEOUT_S for name in declared or PLAIN]
    return REST_S + sum(trials)


def _naming(path: Path, detail: str) -> str:
    return detail if str(path) in detail else f"{path}: {detail}"


def _died(ended: Ended, most_mb: float) -> UpdateError:
    if ended.of_memory:
        text = f"the child that tried the model {ended.why}: it could have {most_mb:.0f} MB"
        return UpdateError(Reason.MEMORY, text, final=most_mb >= MEMORY_MOST_MB and not ended.killed)
    return UpdateError(Reason.CRASHED, f"the child that tried the model {ended.why}", final=True)
