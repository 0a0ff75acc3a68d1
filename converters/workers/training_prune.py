"""Magnitude pruning: the smallest weights become zero, more and more of them, while the rest learns to do without
(Zhu and Gupta 2017, arXiv:1710.01878, equation 1)."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.workers.protocol import Array, Job, RefusedError
from converters.workers.training_data import Rows
from converters.workers.training_keras import Lesson, Named, fit, load, write
from converters.workers.training_loop import course_of, make_deterministic, steps_of

# Where the weights of a layer are. Depthwise kernels are left: few weights, and each channel hangs on its nine.
_KERNELS = {
    "Dense": "kernel",
    "Conv1D": "kernel",
    "Conv2D": "kernel",
    "Conv3D": "kernel",
    "Conv1DTranspose": "kernel",
    "Conv2DTranspose": "kernel",
    "SeparableConv1D": "pointwise_kernel",
    "SeparableConv2D": "pointwise_kernel",
}
_RAMP = 0.6  # of the steps: the rest is for recovering at the full sparsity
_CHOICES = 50  # times that the zeros are chosen anew on the ramp: sorting at each step would cost more than training


class Zeros:
    """The weights of a model that are held at zero."""

    def __init__(self, model: Any, sparsity: float, steps: int) -> None:
        # _flatten_layers is there in both versions, and reaches into nested models
        layers = [layer for layer in model._flatten_layers() if type(layer).__name__ in _KERNELS]
        self._kernels = [getattr(layer, _KERNELS[type(layer).__name__]) for layer in layers]
        if not self._kernels:
            raise RefusedError(f"the model has no layer to prune: it can be done with {', '.join(sorted(_KERNELS))}")
        self._masks: list[Array] = [np.ones(kernel.shape, np.float32) for kernel in self._kernels]
        self._sparsity = sparsity
        self._ramp = max(1, int(_RAMP * steps))
        self._every = max(1, self._ramp // _CHOICES)

    def after_step(self, done: int) -> None:
        """Hold the zeros; choose more while the ramp goes up."""
        if done <= self._ramp and (done % self._every == 0 or done == self._ramp):
            share = self._sparsity * (1 - (1 - done / self._ramp) ** 3)
            self._masks = [_mask(np.asarray(kernel), share) for kernel in self._kernels]
        for kernel, mask in zip(self._kernels, self._masks, strict=True):
            kernel.assign(np.asarray(kernel) * mask)

    def reached(self) -> tuple[int, int]:
        """(weights that are zero, weights in all) of the pruned kernels."""
        values = [np.asarray(kernel) for kernel in self._kernels]
        return sum(int((value == 0).sum()) for value in values), sum(value.size for value in values)


def prune_magnitude(job: Job) -> dict[str, Any]:
    """The operation "magnitude": writes pruned.keras and pruned.tflite, and beside them tuned.keras and tuned.tflite,
    the model trained just as long without pruning."""
    arguments = job.arguments
    make_deterministic(arguments["seed"])
    rows = Rows(job)
    keras, model = load(job)
    lesson = Lesson(job, rows, load(job)[1])
    found: dict[str, Any] = {"before": {"parameters": int(model.model.count_params())}}
    zeros = Zeros(model.model, arguments["sparsity"], steps_of(rows, arguments["epochs"]))
    _fit(lesson, keras, model, "fine-tuning the pruned model", zeros)
    found["pruned"] = write(job, keras, model.model, "pruned")
    found["zeros"], found["weights"] = zeros.reached()
    _, other = load(job)
    _fit(lesson, keras, other, "fine-tuning without pruning, to compare", None)
    return {**found, "tuned": write(job, keras, other.model, "tuned")}


def _fit(lesson: Lesson, keras: Any, model: Named, text: str, zeros: Zeros | None) -> None:
    fit(
        lesson,
        keras,
        model,
        course=course_of(lesson.job),
        text=text,
        after_step=zeros.after_step if zeros else None,
    )


def _mask(values: Array, share: float) -> Array:
    """1 for the largest weights, 0 for that share of the smallest."""
    count = round(share * values.size)
    mask = np.ones(values.size, np.float32)
    mask[np.argsort(np.abs(values), axis=None, kind="stable")[:count]] = 0
    return mask.reshape(values.shape)
