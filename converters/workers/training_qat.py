"""Quantisation-aware fine-tuning of a float .tflite's graph, whatever framework it came from.

The steps of its int8 file are simulated while weights and steps are trained; the answers of the float model are the
teacher, beside the labels where there are any.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Array, Job
from converters.workers.training_data import Form, Objective, Rows, form_of, logits_of, spreads_of
from converters.workers.training_graph import TrainedGraph
from converters.workers.training_loop import make_deterministic, steps_of, train

# float32 kernels add in another order than the interpreter's; a wrong operation is off by 0.1 and more
_TOLERANCE = 1e-3
# Steps learn this much faster than weights: one huge channel can need steps a hundred times smaller, within an epoch
_STEP_RATE = 25.0
_STARTED_FROM = 32  # rows that show which channels are large
_LOOKED_AT = 256  # rows that show how an output must be read
_INSIDE = {"SOFTMAX": "softmax", "LOGISTIC": "sigmoid"}


def fine_tune(job: Job) -> dict[str, Any]:
    """The operation "qat". Sets "constants" (by buffer number), "sample" and "expected" (one sample, and what each
    operation makes of it) lie in the job's folder. Writes the set "trained"; returns the learnt ``scales`` by tensor
    name and the mean ``losses`` by epoch."""
    arguments = job.arguments
    make_deterministic(arguments["seed"])
    rows = Rows(job)
    constants = {int(buffer): np.array(values) for buffer, values in job.arrays("constants").items()}
    graph = TrainedGraph(arguments["graph"], constants)
    graph.check(job.arrays("sample"), {int(key): value for key, value in job.arrays("expected").items()}, _TOLERANCE)
    losses = _trained(job, rows, graph, TrainedGraph(arguments["graph"], constants))
    job.save_arrays("trained", {str(buffer): values for buffer, values in graph.trained().items()})
    return {"scales": graph.scales(), "losses": losses}


def _trained(job: Job, rows: Rows, graph: TrainedGraph, teacher: TrainedGraph) -> list[float]:
    arguments = job.arguments
    epochs, rate = arguments["epochs"], arguments["learning_rate"]
    answers = _answers(rows, teacher)
    graph.start_steps(_values(rows, teacher, _STARTED_FROM))
    reads, forms = _readings(teacher, arguments["heads"], answers)
    spreads = spreads_of(forms, {**answers, **rows.labels})
    objective = Objective(forms, spreads, share=arguments["teacher_share"])
    optimizers = [_adam(rate, steps_of(rows, epochs)), _adam(rate * _STEP_RATE, steps_of(rows, epochs))]
    sides = [graph.weights, graph.step_factors]

    def logits(values: Mapping[int, Any]) -> dict[str, Any]:
        return {tensor: logits_of(values[reads[tensor]], form) for tensor, form in forms.items()}

    def step(inputs: dict[str, Any], truth: dict[str, Any]) -> Any:
        taught = logits(teacher.run(inputs, quantised=False))
        with tf.GradientTape() as tape:
            loss = objective.loss(logits(graph.run(inputs, quantised=True)), truth, taught)
        gradients = tape.gradient(loss, sides, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for optimizer, slopes, variables in zip(optimizers, gradients, sides, strict=True):
            if variables:
                optimizer.apply_gradients(zip(slopes, variables, strict=True))
        return loss

    compiled = tf.function(step, reduce_retracing=True)
    return train(job, rows, compiled, epochs=epochs, seed=arguments["seed"], text="fine-tuning for int8")


def _answers(rows: Rows, teacher: TrainedGraph) -> dict[str, Array]:
    """The float model's outputs for the first rows."""
    values = _values(rows, teacher, _LOOKED_AT)
    return {tensor: np.asarray(values[number]) for tensor, number in teacher.outputs.items()}


def _values(rows: Rows, teacher: TrainedGraph, count: int) -> dict[int, Any]:
    """Every tensor of the float model for the first rows."""
    inputs = rows.inputs(slice(0, count))
    return teacher.run({name: tf.constant(array) for name, array in inputs.items()}, quantised=False)


def _readings(
    graph: TrainedGraph, heads: Mapping[str, Any], answers: Mapping[str, Array]
) -> tuple[dict[str, int], dict[str, Form]]:
    """By output tensor (number of the tensor that the loss looks at, how it is read): what goes into a softmax or
    sigmoid at the end, where there is one, since it says more than the rounded probabilities."""
    reads, forms = {}, {}
    for tensor, number in graph.outputs.items():
        head = heads.get(tensor, {"task": "none", "activation": "none"})
        reads[tensor], forms[tensor] = number, form_of(answers[tensor], head)
        kind, source = graph.source(number)
        if forms[tensor] in ("probabilities", "shares") and kind in _INSIDE:
            reads[tensor], forms[tensor] = source, _INSIDE[kind]
    return reads, forms


def _adam(rate: float, steps: int) -> Any:
    import tf_keras

    return tf_keras.optimizers.Adam(tf_keras.optimizers.schedules.CosineDecay(rate, steps))
