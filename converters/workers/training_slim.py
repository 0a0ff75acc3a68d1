"""Channel pruning: whole channels go, with everything that hangs on them, and a smaller model of the same kind remains.

What is removed is chosen by the size of the weights that make a channel (Li et al. 2017, arXiv:1608.08710), as batch
normalisation scales them. That nothing else was cut is not believed but checked, on each run.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from converters.workers.protocol import Array, Job, RefusedError
from converters.workers.training_channels import DEPTHWISE, PRODUCERS, SEPARABLE, TRANSPOSED, Call, Channels
from converters.workers.training_data import Rows
from converters.workers.training_keras import Lesson, Named, fit, load, write
from converters.workers.training_loop import Course, course_of, make_deterministic
from converters.workers.training_rebuild import Removal, plan_of

_COMPARED = 64  # rows on which the smaller model must equal the silenced one
_TOLERANCE = 1e-3  # of the output's largest value, at least 1: another order of adding, in float32


def prune_channels(job: Job) -> dict[str, Any]:
    """The operation "channels": writes pruned.keras and pruned.tflite, and beside them scratch.keras and
    scratch.tflite, a model of the same size that was trained for ``scratch_epochs`` from new weights."""
    arguments = job.arguments
    make_deterministic(arguments["seed"])
    rows = Rows(job)
    keras, model = load(job)
    lesson = Lesson(job, rows, load(job)[1])
    channels = Channels(plan_of(model.model))
    removed = chosen(channels, arguments["keep"])
    removal = Removal(channels, removed)
    small, layers = removal.build(keras, model.model)
    removal.copy_weights(layers)
    pruned = Named(small)
    before = int(model.model.count_params())
    removal.silence()
    difference = _require_equal(model, pruned, rows)
    _fit(lesson, keras, pruned, course_of(job), "fine-tuning the pruned model")
    found = {
        "before": {"parameters": before},
        "difference": difference,
        "kept_whole": channels.kept_whole,
        "channels": _counts(channels, removed),
        "pruned": write(job, keras, small, "pruned"),
    }
    keras.utils.set_random_seed(arguments["seed"])
    anew, layers = removal.build(keras, model.model)
    removal.copy_measured(layers)
    course = Course(arguments["scratch_epochs"], arguments["learning_rate"])
    _fit(lesson, keras, Named(anew), course, "training the same size anew, to compare")
    return {**found, "scratch": write(job, keras, anew, "scratch")}


def chosen(channels: Channels, keep: float) -> set[int]:
    """The channels to remove: of those that are made together, all but the share ``keep`` that matters most, at least
    one. Raises RefusedError where there is nothing to remove."""
    importance, removed = importances(channels), set()
    for numbers in channels.removable().values():
        kept = max(1, math.ceil(keep * len(numbers)))
        order = sorted(numbers.tolist(), key=lambda number: (-importance[number], number))
        removed |= set(order[kept:])
    if not removed:
        reasons = "; ".join(f"{name!r} ({kind}) is kept whole" for name, kind in channels.kept_whole.items())
        raise RefusedError(
            f"no channel can be removed at keep = {keep:g}: the layers {', '.join(sorted(PRODUCERS))} can lose "
            "channels that go neither out of the model nor into another kind of layer"
            f"{'; here ' + reasons if reasons else ''}"
        )
    return removed


def importances(channels: Channels) -> dict[int, float]:
    """By channel number: the sum of absolute weights over all layers that make it, each in units of its mean."""
    scales = {call.inputs[0]: _normalisation(call) for call in channels.plan.calls if _is_normalisation(call)}
    found: dict[int, float] = {}
    for call in channels.plan.calls:
        sizes = _sizes(call)
        if sizes is None:
            continue
        sizes = sizes * scales.get(call.output, 1.0)
        for number, size in zip(channels.of(call.output).tolist(), sizes / max(sizes.mean(), 1e-12), strict=True):
            found[number] = found.get(number, 0.0) + float(size)
    return found


def _fit(lesson: Lesson, keras: Any, model: Named, course: Course, text: str) -> None:
    fit(lesson, keras, model, course=course, text=text)


def _sizes(call: Call) -> Array | None:
    """(channels,): the sum of absolute weights that make each channel; None for a layer that makes none."""
    kind = type(call.layer).__name__
    if kind not in (*PRODUCERS, *DEPTHWISE):
        return None
    kernel = np.abs(call.layer.get_weights()[1 if kind in SEPARABLE else 0]).astype(np.float64)
    if kind in DEPTHWISE:
        kernel = kernel.reshape(*kernel.shape[:-2], -1)
    axis = kernel.ndim - (2 if kind in TRANSPOSED else 1)
    total: Array = kernel.sum(axis=tuple(other for other in range(kernel.ndim) if other != axis))
    return total


def _is_normalisation(call: Call) -> bool:
    return type(call.layer).__name__ == "BatchNormalization"


def _normalisation(call: Call) -> Array:
    """(channels,): by what batch normalisation multiplies each channel."""
    layer = call.layer
    scale = 1 / np.sqrt(np.asarray(layer.moving_variance, np.float64) + layer.epsilon)
    factor: Array = np.abs(np.asarray(layer.gamma, np.float64)) * scale if layer.scale else scale
    return factor


def _require_equal(silenced: Named, pruned: Named, rows: Rows) -> float:
    """The model whose removed channels nobody reads, and the one without them: the largest difference."""
    worst = 0.0
    wanted, found = (model.predict(rows, _COMPARED) for model in (silenced, pruned))
    for name, values in wanted.items():
        size = max(1.0, float(np.abs(values).max(initial=0.0)))
        worst = max(worst, float(np.abs(values - found[name]).max(initial=0.0)) / size)
    if not worst <= _TOLERANCE:
        raise RefusedError(
            f"without the removed channels the model computes something else (off by {worst:.2g}), so they can't be "
            "removed soundly: use --method magnitude"
        )
    return worst


def _counts(channels: Channels, removed: set[int]) -> dict[str, list[int]]:
    """By layer that lost channels: how many it had, how many it has."""
    found = {}
    for call in channels.plan.calls:
        if type(call.layer).__name__ in PRODUCERS:
            numbers = channels.of(call.output).tolist()
            kept = sum(number not in removed for number in numbers)
            if kept < len(numbers):
                found[call.layer.name] = [len(numbers), kept]
    return found
