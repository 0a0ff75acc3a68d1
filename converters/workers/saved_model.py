"""SavedModel folders: one signature as a float .tflite with batch 1, and predictions of the original."""

from __future__ import annotations

from typing import Any

from converters.workers.protocol import Job, RefusedError, work
from converters.workers.tf_export import SIGNATURE, Graph, predict, require_real, write_float


def load(job: Job) -> Graph:
    """The signature that the job names; without a name serving_default, or the only one. Raises RefusedError."""
    import tensorflow as tf

    path, wanted = job.arguments["path"], job.arguments.get("signature")
    try:
        model = tf.saved_model.load(path)
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise RefusedError(f"{path}: TensorFlow {tf.__version__} can't load it: {_first_line(error)}") from error
    signatures = dict(model.signatures)
    function = signatures[_choose(path, sorted(signatures), wanted)]
    specs = function.structured_input_signature[1]
    for name, spec in specs.items():
        require_real(name, spec.dtype)
        if spec.shape.rank is None:
            raise RefusedError(f"{path}: input {name!r} has no known shape; save the signature with one")
    shapes = {name: tuple(spec.shape) for name, spec in specs.items()}
    _require_batch(path, shapes)

    def call(**tensors: Any) -> dict[str, Any]:
        result: dict[str, Any] = function(**tensors)
        return result

    # the loaded object keeps the tables and variables that the function reads
    return Graph(shapes, tuple(function.structured_outputs), call, (model,))


def _choose(path: str, known: list[str], wanted: str | None) -> str:
    if not known:
        raise RefusedError(f"{path}: has no signatures: save it with model.export, or with signatures={{...}}")
    name = wanted or (known[0] if len(known) == 1 else SIGNATURE)
    if name not in known:
        problem = f"no signature {name!r}" if wanted else "several signatures"
        raise RefusedError(f"{path}: {problem}; choose with --signature one of {', '.join(known)}")
    return name


def _require_batch(path: str, shapes: dict[str, tuple[int | None, ...]]) -> None:
    for name, shape in shapes.items():
        if shape[:1] not in ((1,), (None,)):
            raise RefusedError(f"{path}: input {name!r} has shape {shape}: save it with a batch of 1, or an open one")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def main() -> None:
    work(
        {
            "export": lambda job: write_float(load(job), job.folder / "model.tflite", ("tensorflow",)),
            "predict": lambda job: predict(job, load(job)),
        }
    )
