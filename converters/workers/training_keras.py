"""Keras models of both versions, as the techniques that change the model itself use them: load, call by name, train,
write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Array, Job, RefusedError
from converters.workers.tf_export import Graph, export_keras2, export_keras3, keras_graph, load_keras
from converters.workers.training_data import Form, Objective, Rows, form_of, logits_of, spreads_of
from converters.workers.training_loop import Course, steps_of, train

_LOOKED_AT = 256  # rows that show how an output must be read
_PREDICTED_AT_ONCE = 64
Tensors = Mapping[str, Any]
AfterStep = Callable[[int], None]


def keras_of(kind: str) -> Any:
    """The module for models of that kind: keras3 or keras2."""
    if kind == "keras2":
        import tf_keras

        return tf_keras
    import keras

    return keras


class Named:
    """A model whose inputs and outputs go by name, as in its exported file. Raises RefusedError for one that can't be
    exported."""

    def __init__(self, model: Any) -> None:
        graph: Graph = keras_graph(model)
        self.model = model
        self.inputs = list(graph.inputs)
        self.outputs = list(graph.outputs)
        self._structure = getattr(model, "input", None)

    def __call__(self, tensors: Tensors, *, training: bool) -> dict[str, Any]:
        given: Any = [tensors[name] for name in self.inputs]
        if isinstance(self._structure, Mapping):
            given = {name: tensors[name] for name in self.inputs}
        elif len(given) == 1 and not isinstance(self._structure, (list, tuple)):
            given = given[0]
        result = self.model(given, training=training)
        if isinstance(result, Mapping):
            return {name: result[name] for name in self.outputs}
        values = result if isinstance(result, (list, tuple)) else [result]
        return dict(zip(self.outputs, values, strict=True))

    def predict(self, rows: Rows, limit: int) -> dict[str, Array]:
        """The outputs for the first rows."""
        call = tf.function(lambda tensors: self(tensors, training=False), reduce_retracing=True)
        found = []
        for batch in rows.in_order(_PREDICTED_AT_ONCE):
            if batch.start >= limit:
                break
            inputs = {name: tf.constant(values) for name, values in rows.inputs(batch).items()}
            found.append({name: tensor.numpy() for name, tensor in call(inputs).items()})
        return {name: np.concatenate([part[name] for part in found]) for name in self.outputs}


class Lesson:
    """What models are trained for in a job: the heads of the card, the rows, and for an output without labels the
    answers of ``teacher``."""

    def __init__(self, job: Job, rows: Rows, teacher: Named) -> None:
        self.job = job
        self.rows = rows
        self.teacher = teacher
        self.heads: Mapping[str, Any] = job.arguments["heads"]
        self._answers = teacher.predict(rows, _LOOKED_AT)
        self.forms = self.forms_of(self._answers)
        self.unlabelled = [tensor for tensor in teacher.outputs if tensor not in rows.labels]

    def forms_of(self, answers: Mapping[str, Array]) -> dict[str, Form]:
        none = {"task": "none", "activation": "none"}
        return {tensor: form_of(values, self.heads.get(tensor, none)) for tensor, values in answers.items()}

    def objective(self, share: float, temperature: float) -> Objective:
        spreads = spreads_of(self.forms, {**self._answers, **self.rows.labels})
        return Objective(self.forms, spreads, share=share, temperature=temperature)


def fit(
    lesson: Lesson,
    keras: Any,
    student: Named,
    *,
    course: Course,
    text: str,
    share: float = 0.0,
    temperature: float = 1.0,
    after_step: AfterStep | None = None,
) -> list[float]:
    """Train ``student`` with Adam and a cosine schedule; returns the mean loss by epoch. ``share`` of the loss is
    against the teacher. ``after_step`` is called with the number of steps done."""
    seed, done = lesson.job.arguments["seed"], 0
    keras.utils.set_random_seed(seed)  # the same dropout, whatever was drawn before
    objective = lesson.objective(share, temperature)
    forms = {"student": lesson.forms_of(student.predict(lesson.rows, _LOOKED_AT)), "teacher": lesson.forms}
    taught = share > 0 or bool(lesson.unlabelled)
    steps = steps_of(lesson.rows, course.epochs)
    schedule = keras.optimizers.schedules.CosineDecay(course.learning_rate, steps)
    optimizer = keras.optimizers.Adam(schedule)
    variables = student.model.trainable_variables
    optimizer.build(variables)

    def logits(side: str, outputs: Tensors) -> dict[str, Any]:
        return {tensor: logits_of(outputs[tensor], form) for tensor, form in forms[side].items()}

    def update(inputs: dict[str, Any], truth: dict[str, Any]) -> Any:
        answers = logits("teacher", lesson.teacher(inputs, training=False)) if taught else None
        with tf.GradientTape() as tape:
            outputs = logits("student", student(inputs, training=True))
            loss = objective.loss(outputs, truth, answers) + sum(student.model.losses)
        slopes = tape.gradient(loss, [_plain(variable) for variable in variables])
        optimizer.apply_gradients(zip(slopes, variables, strict=True))
        return loss

    compiled = tf.function(update, reduce_retracing=True)

    def step(inputs: dict[str, Any], truth: dict[str, Any]) -> Any:
        nonlocal done
        loss = compiled(inputs, truth)
        done += 1
        if after_step is not None:
            after_step(done)
        return loss

    with _statistics_that_follow(student.model, steps):
        return train(lesson.job, lesson.rows, step, epochs=course.epochs, seed=seed, text=text)


@contextmanager
def _statistics_that_follow(model: Any, steps: int) -> Iterator[None]:
    """The running mean and variance of batch normalisation look back at no more than a tenth of ``steps``: those of
    Keras look back at 100, and after a short training would still be those of before."""
    slowest = 1 - 1 / max(1.0, steps / 10)
    layers = [layer for layer in model._flatten_layers() if type(layer).__name__ == "BatchNormalization"]
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = min(layer.momentum, slowest)
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum


def load(job: Job) -> tuple[Any, Named]:
    """(keras, the model that the job names), all of it trainable. Raises RefusedError."""
    keras = keras_of(job.arguments["kind"])
    model = load_keras(keras, job.arguments["path"])
    model.trainable = True
    return keras, Named(model)


def write(job: Job, keras: Any, model: Any, name: str) -> dict[str, Any]:
    """NAME.keras and NAME.tflite (float) in the job's folder. Returns the number of ``parameters`` and the packages'
    ``versions``."""
    path = job.folder / f"{name}.keras"
    model.save(path)
    export = export_keras2 if keras.__name__ == "tf_keras" else export_keras3
    exported = export(model, Path(job.folder) / f"{name}.tflite")
    return {"parameters": int(model.count_params()), "versions": exported["versions"]}


def require_same_ends(found: Named, wanted: Named, what: str) -> None:
    """Raises RefusedError where inputs or outputs have other names."""
    for side, ours, theirs in (
        ("inputs", found.inputs, wanted.inputs),
        ("outputs", found.outputs, wanted.outputs),
    ):
        if set(ours) != set(theirs):
            raise RefusedError(
                f"{what} has the {side} {', '.join(ours)}, the model has {', '.join(theirs)}: give its layers the same "
                "names"
            )


def _plain(variable: Any) -> Any:
    """Keras 3 wraps the variables of TensorFlow; in Keras 2 ``value`` is a method."""
    return variable if callable(variable.value) else variable.value
