"""The loop of every technique: epochs over shuffled batches, the same with the same seed, with its progress told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Job, RefusedError
from converters.workers.training_data import Rows

BATCH = 64
Step = Callable[[dict[str, Any], dict[str, Any]], Any]


class Course(NamedTuple):
    """``epochs`` over the rows; ``learning_rate`` at the beginning, falling to 0 in a cosine."""

    epochs: int
    learning_rate: float


def course_of(job: Job) -> Course:
    """The one that the job asks for."""
    return Course(job.arguments["epochs"], job.arguments["learning_rate"])


def make_deterministic(seed: int) -> None:
    """Before anything of TensorFlow runs: the same job then gives the same weights."""
    random.seed(seed)
    np.random.seed(seed)  # Keras 2 draws initial weights from it
    tf.random.set_seed(seed)
    tf.config.experimental.enable_op_determinism()


def steps_of(rows: Rows, epochs: int) -> int:
    return -(-rows.count // BATCH) * epochs


def train(job: Job, rows: Rows, step: Step, *, epochs: int, seed: int, text: str) -> list[float]:
    """Call ``step`` (inputs, truth) -> loss on each batch; returns the mean loss of each epoch.

    Raises RefusedError when the loss is no number any more.
    """
    rng = np.random.default_rng(seed)
    total, done, losses = steps_of(rows, epochs), 0, []
    for epoch in range(epochs):
        found = []
        for batch in rows.shuffled(BATCH, rng):
            inputs = {name: tf.constant(values) for name, values in rows.inputs(batch).items()}
            truth = {name: tf.constant(values) for name, values in rows.truth(batch).items()}
            found.append(float(step(inputs, truth)))
            done += 1
            job.progress(done, total, f"{text}, epoch {epoch + 1} of {epochs}")
            if not np.isfinite(found[-1]):
                raise RefusedError(f"the loss is no number any more in epoch {epoch + 1}: give a lower learning rate")
        losses.append(float(np.mean(found)))
    return losses
