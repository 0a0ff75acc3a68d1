"""Golden samples: tensors that are ready to run, with what this model makes of them, so that a device can tell whether
it computes what was measured on the workstation.

Chosen where the kernels of different back-ends agree best: the ones here differ in a few steps on many samples.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct

from converters.datasets.splits import spread
from converters.device_model import DeviceModel
from converters.progress import Progress, Silent
from converters.records import Dataset, Tensors
from edge_agent.core.card_schema import Golden
from edge_agent.core.golden import class_tensors, run_golden, worst_steps
from edge_agent.errors import ModelError
from edge_agent.io.golden_file import read_golden
from edge_agent.records import Array, TensorSpec

CANDIDATES = 200  # rows to choose from
MOST = 16  # samples in a file: a device runs them all before it trusts a model
WITHOUT_CLASSES = 5
LEAST_TOLERANCE = 8  # steps; measured on one machine, other kernels may differ a little more


class GoldenSet(Struct, frozen=True):
    """``inputs`` and ``outputs``: by tensor, a row for each sample. ``rule`` is for the card."""

    inputs: Tensors
    outputs: Tensors
    rule: Golden


class GoldenCheck(Struct, frozen=True):
    """One comparison: the largest difference found, in steps, and the samples whose best class changed."""

    delegate: str
    samples: int
    worst_lsb: int
    changed: int
    ok: bool


def choose_golden(
    model: bytes, card: DeviceModel, dataset: Dataset, rows: Sequence[int], *, progress: Progress | None = None
) -> GoldenSet:
    """Choose among at most 200 of the rows. ``card`` is the model that prepares inputs; ``model`` the bytes to run.

    The tolerance is twice the largest difference between the XNNPACK and the reference kernels on all candidates.
    """
    runs = _run_candidates(card, dataset, spread(rows, CANDIDATES), progress or Silent())
    specs = {spec.name: spec for spec in card.outputs}
    differences = [worst_steps(run.usual, run.reference, specs) for run in runs]
    worst = max(differences)
    tolerance = max(LEAST_TOLERANCE, 2 * worst)
    chosen = _chosen(runs, differences, card, specs)
    if not chosen:
        raise ModelError("no sample gives the same class with both kinds of kernels: the model can't be checked")
    reason = (
        f"XNNPACK and the reference kernels differ by at most {worst} steps on {len(runs)} samples "
        f"({sum(1 for found in differences if found)} of them differ at all): twice that, at least {LEAST_TOLERANCE}"
    )
    return GoldenSet(
        inputs={name: np.stack([runs[index].inputs[name] for index in chosen]) for name in runs[0].inputs},
        outputs={name: np.stack([runs[index].usual[name] for index in chosen]) for name in runs[0].usual},
        rule=Golden(tolerance_lsb=tolerance, argmax=_classifies(card), reason=reason),
    )


def check_golden(content: bytes, path: Path, *, delegate: str) -> GoldenCheck:
    """Run the golden samples inside the model file. Raises ModelError where there are none or they don't fit."""
    model = DeviceModel(content, path=path, delegate=delegate)
    stored = read_golden(model.file.members, path)
    found = run_golden(stored.inputs, stored.outputs, model.invoke, model.card, model.outputs)
    model.close()
    return GoldenCheck(delegate, found.samples, found.worst_lsb, found.changed, found.ok)


def golden_bytes(golden: GoldenSet) -> bytes:
    """The member edge-agent/golden.npz: arrays "input/TENSOR" and "output/TENSOR". Same arrays, same bytes."""
    stream = io.BytesIO()
    arrays = {f"input/{name}": rows for name, rows in golden.inputs.items()}
    arrays |= {f"output/{name}": rows for name, rows in golden.outputs.items()}
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    return stream.getvalue()


class _Run(Struct):
    inputs: Tensors
    usual: Tensors
    reference: Tensors


def _run_candidates(card: DeviceModel, dataset: Dataset, rows: Sequence[int], progress: Progress) -> list[_Run]:
    reference = DeviceModel(card.file.content, path=Path(card.file.path), delegate="cpu")
    states = {item.tensor for item in card.card.state_inputs}
    runs = []
    with progress.step("choosing golden samples", len(rows)) as advance:
        for number, row in enumerate(rows):
            example = dataset.example(row)
            inputs = card.prepare(example)
            for spec in card.inputs:
                if spec.name in states:
                    inputs[spec.name] = np.full(spec.shape, spec.zero_point, spec.dtype)
            runs.append(_Run(inputs, card.invoke(inputs), reference.invoke(inputs)))
            advance(number + 1)
    reference.close()
    return runs


def _chosen(
    runs: Sequence[_Run], differences: Sequence[int], model: DeviceModel, specs: dict[str, TensorSpec]
) -> list[int]:
    """Those on which the kernels agree, with the widest margin: one of each class that occurs, up to MOST."""
    tensors = class_tensors(model.card)
    order = sorted(range(len(runs)), key=lambda index: (differences[index], -_margin(runs[index].usual, tensors)))
    if not tensors:
        return sorted(order[:WITHOUT_CLASSES])
    best: dict[tuple[int, ...], int] = {}
    for index in order:
        classes = tuple(int(runs[index].usual[name].argmax()) for name in tensors)
        if classes == tuple(int(runs[index].reference[name].argmax()) for name in tensors):
            best.setdefault(classes, index)
    return [best[classes] for classes in sorted(best)][:MOST]


def _margin(outputs: Tensors, tensors: Sequence[str]) -> float:
    """How far the best class stands above the next, in steps; of several heads the narrowest."""
    return min((_lead(outputs[name]) for name in tensors), default=0.0)


def _lead(array: Array) -> float:
    ordered = np.sort(array.reshape(-1).astype(np.float64))
    return float(ordered[-1] - ordered[-2]) if ordered.size > 1 else 0.0


def _classifies(model: DeviceModel) -> bool:
    return bool(class_tensors(model.card))
