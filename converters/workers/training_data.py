"""What is trained on: rows in a seeded order, and for each output the loss that its task asks for.

A job holds the sets "images", "features" and "labels" (converters.arrays.save); its argument "heads" says by output
tensor which ``task`` and ``activation`` the card gives.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Array, Job, RefusedError, real_inputs

Tensor = Any
Form = str  # how a classification's output must be read: see form_of
_LEAST_PROBABILITY = 1e-20  # log of it is still a number, and so is the gradient
_LEAST_SPREAD = 1e-12
_ONE_OF_MANY = ("softmax", "probabilities")
_LEAST_SHARE = 1e-7  # of a sigmoid: 1 - p is rounded to 0 below this


class Rows:
    """The training rows of a job. ``labels``: by output tensor, those that the data has."""

    def __init__(self, job: Job) -> None:
        self._images = job.arrays("images")
        self._features = job.arrays("features")
        self._normalisation = json.loads((job.folder / "normalisation.json").read_text())
        self.labels = {name: np.asarray(values) for name, values in job.arrays("labels").items()}
        self.count = len(next(iter({**self._images, **self._features}.values())))

    def inputs(self, rows: Any) -> dict[str, Array]:
        """float32 by tensor."""
        return real_inputs(self._images, self._normalisation, self._features, rows)

    def truth(self, rows: Any) -> dict[str, Array]:
        """By output tensor."""
        return {name: values[rows] for name, values in self.labels.items()}

    def in_order(self, size: int) -> Iterator[slice]:
        for start in range(0, self.count, size):
            yield slice(start, min(start + size, self.count))

    def shuffled(self, size: int, rng: np.random.Generator) -> Iterator[Array]:
        """Every row once; within a batch in the order of the file, which reads faster."""
        order = rng.permutation(self.count)
        for start in range(0, self.count, size):
            yield np.sort(order[start : start + size])


def form_of(outputs: Array, head: Mapping[str, Any]) -> Form:
    """How the values of a classification are to be read: "softmax" or "sigmoid" for what is still to be applied,
    "probabilities" where softmax is inside the model, "shares" where sigmoid is; "values" for any other task.

    ``outputs``: (n, classes) of a trained model.
    """
    if head["task"] != "classification":
        return "values"
    if head["activation"] != "none":
        return str(head["activation"])
    flat = outputs.reshape(len(outputs), -1)
    if flat.min() < 0 or flat.max() > 1:
        return "softmax" if flat.shape[1] > 1 else "sigmoid"
    sums_to_one = flat.shape[1] > 1 and np.allclose(flat.sum(axis=1), 1.0, atol=1e-3)
    return "probabilities" if sums_to_one else "shares"


def logits_of(outputs: Tensor, form: Form) -> Tensor:
    """(n, classes) before the activation; a softmax's up to a constant for each row, which changes nothing."""
    flat = tf.reshape(outputs, [tf.shape(outputs)[0], -1])
    if form == "probabilities":
        return tf.math.log(tf.maximum(flat, _LEAST_PROBABILITY))
    if form == "shares":
        p = tf.clip_by_value(flat, _LEAST_SHARE, 1 - _LEAST_SHARE)
        return tf.math.log(p) - tf.math.log1p(-p)
    return flat


class Objective:
    """The loss over all outputs: ``share`` of it against a teacher's answers, the rest against the truth; an output
    without labels has the teacher alone.

    ``forms`` by output tensor (form_of). ``spreads``: by what a squared error is divided, so that outputs in different
    units weigh alike. Divided by ``temperature`` answers show what the teacher takes for similar.
    """

    def __init__(
        self, forms: Mapping[str, Form], spreads: Mapping[str, float], *, share: float = 0.0, temperature: float = 1.0
    ) -> None:
        self._forms = forms
        self._spreads = spreads
        self._share = share
        self._temperature = temperature

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        labels: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Mean over the batch, summed over the outputs. Outputs as ``logits_of`` gives them."""
        total = tf.constant(0.0)
        for tensor, form in self._forms.items():
            share = 0.0 if teacher is None else self._share if tensor in labels else 1.0
            loss = tf.constant(0.0)
            if share < 1:
                loss += (1 - share) * _against_truth(outputs[tensor], labels[tensor], form)
            if teacher is not None and share > 0:
                loss += share * _against_teacher(outputs[tensor], teacher[tensor], form, self._temperature)
            total += loss / self._spreads[tensor]
        return total


def spreads_of(forms: Mapping[str, Form], values: Mapping[str, Array]) -> dict[str, float]:
    """The variance of each output that is compared by squared error, from its labels or a teacher's answers."""
    return {
        tensor: max(float(np.var(values[tensor])), _LEAST_SPREAD) if form == "values" else 1.0
        for tensor, form in forms.items()
    }


def check_labels(heads: Mapping[str, Any], labels: Mapping[str, Array]) -> None:
    """Raises RefusedError for an output that nothing says the truth for."""
    for tensor, head in heads.items():
        if tensor not in labels:
            raise RefusedError(
                f"no label for the output {tensor!r} ({head['task']}) in the training rows: training needs the truth "
                "of every output, in every row of the split train"
            )


def _against_truth(logits: Tensor, labels: Tensor, form: Form) -> Tensor:
    """Cross-entropy of a classification, squared error of anything else."""
    if form == "values":
        truth = tf.reshape(tf.cast(labels, tf.float32), tf.shape(logits))
        return tf.reduce_mean(tf.math.squared_difference(logits, truth))
    if form in _ONE_OF_MANY:
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    classes = logits.shape[1]
    truth = tf.cast(labels, tf.float32)[:, None] if classes == 1 else tf.one_hot(labels, classes)
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(truth, logits))


def _against_teacher(logits: Tensor, teacher: Tensor, form: Form, temperature: float) -> Tensor:
    """Cross-entropy with the teacher's softened answer; times the square of the temperature, so that gradients keep
    their size (Hinton et al. 2015, arXiv:1503.02531, section 2)."""
    if form == "values":
        return tf.reduce_mean(tf.math.squared_difference(logits, teacher))
    if form in _ONE_OF_MANY:
        soft = tf.nn.softmax(teacher / temperature)
        loss = tf.nn.softmax_cross_entropy_with_logits(soft, logits / temperature)
    else:
        loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.sigmoid(teacher / temperature), logits / temperature)
    return temperature**2 * tf.reduce_mean(loss)
