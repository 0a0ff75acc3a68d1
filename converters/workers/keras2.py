"""Keras 2 models (.keras of version 2, .h5) with tf_keras: export to a float .tflite, and predictions of the original.

TF_USE_LEGACY_KERAS=1 must be set for this process.
"""

from __future__ import annotations

from typing import Any

from converters.workers.protocol import Job, work
from converters.workers.tf_export import export_keras2, keras_graph, load_keras, predict


def load(job: Job) -> Any:
    """The model that the job names. Raises RefusedError."""
    import tf_keras

    return load_keras(tf_keras, job.arguments["path"])


def main() -> None:
    work(
        {
            "export": lambda job: export_keras2(load(job), job.folder / "model.tflite"),
            "predict": lambda job: predict(job, keras_graph(load(job))),
        }
    )
