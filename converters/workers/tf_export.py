"""From a live Keras model, or a SavedModel's signature, to a float .tflite with batch 1 and the model's own names.

Both Keras versions end in the same way: the model is called once with a batch of 1, the call is saved as the one
signature of a SavedModel, and that is converted. Converting the call directly fails for Keras 3 (its variables stay
unread); ``from_keras_model`` leaves the batch open.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converters.workers.parity import compare, made_up
from converters.workers.protocol import Array, Job, RefusedError

SIGNATURE = "serving_default"
PREDICT_BATCH = 64
_UNSUPPORTED = re.compile(r"^(?:Custom|TF Select) ops: (.+)$", re.MULTILINE)
_UNREGISTERED = re.compile(
    r"(?:Could not locate (?:class|function)|Unknown (?:layer|object|\w+ function):?|Cannot deserialize object of type|"
    r"Could not deserialize class) ['`\"]?(?P<name>\w+)"
)


class Graph(NamedTuple):
    """A model as named tensors. ``inputs``: name -> shape, its first axis the batch, None where any size goes.
    ``call`` takes float32 tensors by input name and returns tensors by output name. ``variables``: what it reads."""

    inputs: dict[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    call: Callable[..., dict[str, Any]]
    variables: tuple[Any, ...]


def export_keras3(model: Any, path: Path) -> dict[str, Any]:
    """Write ``model``, a Keras 3 model with known inputs, as a float .tflite. Returns ``inputs`` and ``outputs`` (lists
    of names), ``versions``, ``notes`` and ``differences`` (see parity.py). Names are a dict's keys, else those of the
    input and output layers.

    Raises RefusedError where no device could run it.
    """
    return write_float(keras_graph(model), path, ("tensorflow", "keras"))


def export_keras2(model: Any, path: Path) -> dict[str, Any]:
    """The same for a model of tf_keras."""
    return write_float(keras_graph(model), path, ("tensorflow", "tf-keras"))


def load_keras(keras: Any, path: str) -> Any:
    """The model in the file ``path``, not compiled, by the module ``keras`` of its version. Raises RefusedError."""
    try:
        return keras.models.load_model(path, compile=False)
    except (TypeError, ValueError, KeyError, ImportError, OSError, AttributeError) as error:
        text = str(error)
        advice = "write it with model.export(FOLDER), where its classes are known, and give that SavedModel folder"
        if match := _UNREGISTERED.search(text):
            raise RefusedError(f"{path}: {match['name']!r} is a class or function of your own: {advice}") from error
        if "lambda" in text.lower():
            raise RefusedError(f"{path}: a Lambda layer's code is not run from a file: {advice}") from error
        said = (text.strip().splitlines() or [type(error).__name__])[0]
        raise RefusedError(f"{path}: Keras {keras.__version__} can't load it: {said}") from error


def keras_graph(model: Any) -> Graph:
    """The tensors of a functional or sequential model of either Keras. Raises RefusedError."""
    if not getattr(model, "inputs", None):
        raise RefusedError(
            f"the model {model.name!r} has no known inputs (it subclasses Model, or was never called): write it with "
            "model.export(FOLDER) and give that SavedModel folder"
        )
    structure, inputs = _named(model, "input", [tensor.name for tensor in model.inputs])
    _, outputs = _named(model, "output", _output_names(model))

    def call(**tensors: Any) -> dict[str, Any]:
        if isinstance(structure, dict):
            result = model(tensors, training=False)
        else:
            given = [tensors[name] for name in inputs]
            result = model(given if isinstance(structure, (list, tuple)) else given[0], training=False)
        if not isinstance(result, dict):
            values = result if isinstance(result, (list, tuple)) else [result]
            result = dict(zip(outputs, values, strict=True))
        return {name: result[name] for name in outputs}

    for name, tensor in inputs.items():
        require_real(name, tensor.dtype)
    shapes = {name: tuple(tensor.shape) for name, tensor in inputs.items()}
    return Graph(shapes, tuple(outputs), call, tuple(_variable(variable) for variable in model.variables))


def require_real(name: str, dtype: Any) -> None:
    """Raises RefusedError for an input that does not take real numbers."""
    given = getattr(dtype, "name", dtype)
    if given not in ("float32", "float16", "bfloat16"):
        raise RefusedError(
            f"input {name!r} takes {given}: the device feeds real numbers; rebuild the model with a float32 input"
        )


def write_float(graph: Graph, path: Path, packages: Sequence[str]) -> dict[str, Any]:
    """Convert to ``path``; the answer of the operation "export". Raises RefusedError."""
    import tensorflow as tf

    specs = {name: tf.TensorSpec(_batch_of_one(name, shape), tf.float32) for name, shape in graph.inputs.items()}

    def real(**tensors: Any) -> dict[str, Any]:
        # a model trained in mixed precision ends in half precision
        return {
            name: tf.cast(tensor, tf.float32) if tensor.dtype.is_floating else tensor
            for name, tensor in graph.call(**tensors).items()
        }

    holder = tf.Module()
    holder.variables_read = list(graph.variables)
    concrete = tf.function(real).get_concrete_function(**specs)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(holder, folder, signatures={SIGNATURE: concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        content = _converted(converter)
    path.write_bytes(content)
    differences, notes = _compared(concrete, content, {name: spec.shape for name, spec in specs.items()})
    return {
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "versions": {name: version(name) for name in packages},
        "notes": notes,
        "differences": differences,
    }


def _compared(
    concrete: Any, content: bytes, shapes: Mapping[str, Any]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """The call and what was converted from it, side by side on made-up rows. Raises RefusedError."""
    import tensorflow as tf

    # the reference kernels: the XNNPACK inside TensorFlow 2.21 computes some strided convolutions wrongly
    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    found = set(interpreter.get_signature_list()[SIGNATURE]["inputs"])
    run = interpreter.get_signature_runner(SIGNATURE)
    rows = made_up(shapes, dict.fromkeys(shapes, "float32"), ())
    expected = [{name: tensor.numpy() for name, tensor in concrete(**_constants(row)).items()} for row in rows]
    # what the outputs do not depend on is no input of the .tflite
    return compare(expected, [run(**{name: row[name] for name in found}) for row in rows], ".tflite")


def _constants(rows: Mapping[str, Array]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(values, tf.float32) for name, values in rows.items()}


def predict(job: Job, graph: Graph) -> dict[str, Any]:
    """The operation "predict": the array set "inputs" (rows first) through the model to the set "outputs"."""
    import tensorflow as tf

    inputs = job.arrays("inputs")
    if set(inputs) != set(graph.inputs):
        raise RefusedError(
            f"the model's inputs are {', '.join(graph.inputs)}; given were {', '.join(inputs) or 'none'}"
        )
    count = len(next(iter(inputs.values())))
    size = min((shape[0] for shape in graph.inputs.values() if shape[0] is not None), default=PREDICT_BATCH)
    run = tf.function(graph.call, reduce_retracing=True)
    found: list[dict[str, Array]] = []
    for start in range(0, count, size):
        batch = _constants({name: values[start : start + size] for name, values in inputs.items()})
        found.append({name: tensor.numpy() for name, tensor in run(**batch).items()})
        job.progress(min(start + size, count), count, "predicting with the original model")
    job.save_arrays("outputs", {name: np.concatenate([part[name] for part in found]) for name in graph.outputs})
    return {"rows": count}


def _converted(converter: Any) -> bytes:
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        content: bytes = converter.convert()
    except ConverterError as error:
        ops = sorted({name.strip() for found in _UNSUPPORTED.findall(str(error)) for name in found.split(",")})
        if not ops:
            raise
        raise RefusedError(
            f"the model has ops that a .tflite can't hold without TensorFlow: {', '.join(ops)}; replace the layers "
            "that make them"
        ) from error
    return content


def _batch_of_one(name: str, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    if not shape or None in shape[1:]:
        raise RefusedError(f"input {name!r} has shape {shape}: only the batch may be open; save it with fixed sizes")
    return (1, *(int(size) for size in shape[1:] if size is not None))


def _named(model: Any, side: str, names: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """How the model takes or gives its tensors, and these by name. ``names`` are those of the flat list."""
    flat = list(getattr(model, f"{side}s"))
    structure = getattr(model, side, flat[0])  # a sequential model of Keras 3 has only the list
    if isinstance(structure, Mapping):
        structure = dict(structure)
    members = list(structure.values()) if isinstance(structure, dict) else structure
    if not isinstance(members, (list, tuple)):
        members = [members]
    if any(not hasattr(member, "dtype") for member in members):
        raise RefusedError(f"the model's {side}s are nested: make them one dict or one list of tensors")
    return structure, dict(zip(structure if isinstance(structure, dict) else _unique(names), members, strict=True))


def _output_names(model: Any) -> list[str]:
    """By output; a sequential model of Keras 3 knows none, and its last layer gives the one."""
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])


def _unique(names: Sequence[str]) -> list[str]:
    """Keras 3 names every output of one layer the same."""
    found: list[str] = []
    for name in names:
        tries = (f"{name}_{number}" if number else name for number in range(len(names) + 1))
        found.append(next(candidate for candidate in tries if candidate not in found))
    return found


def _variable(variable: Any) -> Any:
    """Keras 3 wraps the variables of TensorFlow, of which ``value`` is a method."""
    return variable if callable(variable.value) else variable.value
