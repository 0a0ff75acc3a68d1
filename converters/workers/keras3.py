"""Keras 3 models (.keras, .h5): export to a float .tflite, and predictions of the original."""

from __future__ import annotations

from typing import Any

from converters.workers.protocol import Job, work
from converters.workers.tf_export import export_keras3, keras_graph, load_keras, predict


def load(job: Job) -> Any:
    """The model that the job names. Raises RefusedError."""
    import keras

    return load_keras(keras, job.arguments["path"])


def main() -> None:
    work(
        {
            "export": lambda job: export_keras3(load(job), job.folder / "model.tflite"),
            "predict": lambda job: predict(job, keras_graph(load(job))),
        }
    )
