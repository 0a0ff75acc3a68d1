"""Checks of the training worker that need its framework: ``python technique_checks.py CHECK FOLDER``, run where Keras
is. Each writes answer.json into FOLDER, and reads what lies there.

* ``graph``: does the rebuilt graph compute what the interpreter did, and what would its int8 file answer?
* ``channels2``, ``channels3``: networks of many shapes lose half of their channels.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

package = types.ModuleType("converters")  # as workers/run.py does it: this environment has nothing else of the project
package.__path__ = [str(Path(__file__).resolve().parents[2] / "converters")]
sys.modules["converters"] = package
sys.path.insert(0, str(Path(__file__).parent))

from converters.workers.protocol import Array, RefusedError, load_arrays, save_arrays  # noqa: E402

ROWS = 8
Answer = dict[str, Any]


def graph(folder: Path) -> Answer:
    """Sets "constants", "inputs" (rows) and "expected" (of the first row, by tensor number) and graph.json."""
    import tensorflow as tf

    from converters.workers.training_graph import TrainedGraph

    constants = {int(buffer): values for buffer, values in load_arrays(folder, "constants").items()}
    inputs = load_arrays(folder, "inputs")
    try:
        rebuilt = TrainedGraph(json.loads((folder / "graph.json").read_text()), constants)
        expected = {int(number): values for number, values in load_arrays(folder, "expected").items()}
        rebuilt.check({name: values[:1] for name, values in inputs.items()}, expected, 1e-4)
        rows = {name: tf.constant(values) for name, values in inputs.items()}
        for name, quantised in (("float", False), ("int8", True)):
            values = rebuilt.run(rows, quantised=quantised)
            found = {output: np.asarray(values[number]) for output, number in rebuilt.outputs.items()}
            save_arrays(folder, name, found)
    except RefusedError as error:
        return {"refused": str(error)}
    return {"trained": sorted(rebuilt.trained())}


def channels(keras: Any) -> Answer:
    from technique_networks import network

    keras.utils.set_random_seed(4)
    shapes: dict[str, Callable[[Any], Any]] = {
        "hybrid": network,
        "sequential": _sequential,
        "squeezed": _squeezed,
        "separable": _separable,
        "nested": _nested,
        "branches": _branches,
        "recurrent": _recurrent,
        "shared": _shared,
        "operator": lambda keras: _on_picture(keras, lambda x: x + 1.0),
        "mixing reshape": lambda keras: _on_picture(keras, keras.layers.Reshape((8, 2, 72))),
    }
    return {name: _pruned(keras, build(keras)) for name, build in shapes.items()}


def _pruned(keras: Any, model: Any) -> Answer:
    from converters.workers.tf_export import keras_graph
    from converters.workers.training_channels import Channels
    from converters.workers.training_rebuild import Removal, plan_of
    from converters.workers.training_slim import chosen

    _shake(model)
    try:
        channels = Channels(plan_of(model))
        removed = chosen(channels, 0.5)
    except RefusedError as error:
        return {"refused": str(error)}
    removal = Removal(channels, removed)
    small, layers = removal.build(keras, model)
    removal.copy_weights(layers)
    rows = _rows(model)
    removal.silence()
    silenced = _difference(_run(model, rows), _run(small, rows))
    _erase(channels, removed)
    before, after = keras_graph(model), keras_graph(small)
    return {
        "parameters": [int(model.count_params()), int(small.count_params())],
        "silenced": silenced,
        "erased": _difference(_run(model, rows), _run(small, rows)),
        "kept_whole": channels.kept_whole,
        "same_ends": before.inputs == after.inputs and before.outputs == after.outputs,
        "reloads": _reloads(keras, small, rows),
    }


def _erase(channels: Any, removed: set[int]) -> None:
    """Make the removed channels zero where they are made, so that even the whole model has nothing of them."""
    for call in channels.plan.calls:
        gone = np.array([number in removed for number in channels.of(call.output).tolist()])
        if gone.any():
            whole = len(gone)
            weights = [np.array(array) for array in call.layer.get_weights()]
            for array in weights:
                if array.ndim and array.shape[-1] == whole:
                    array[..., gone] = 0
            call.layer.set_weights(weights)


def _shake(model: Any) -> None:
    """Weights and running averages as after a training: nothing is 0 or 1."""
    rng = np.random.default_rng(6)
    model.set_weights([array + rng.uniform(0.05, 0.3, array.shape).astype(np.float32) for array in model.get_weights()])
    for layer in model.layers:
        if type(layer).__name__ == "Normalization":
            layer.finalize_state()  # it computes with copies of its weights


def _rows(model: Any) -> dict[str, Array]:
    from converters.workers.tf_export import keras_graph

    rng = np.random.default_rng(7)
    shapes = keras_graph(model).inputs
    return {name: rng.uniform(-1, 1, (ROWS, *shape[1:])).astype(np.float32) for name, shape in shapes.items()}


def _run(model: Any, rows: dict[str, Array]) -> dict[str, Array]:
    from converters.workers.tf_export import keras_graph

    return {name: np.asarray(value) for name, value in keras_graph(model).call(**rows).items()}


def _difference(left: dict[str, Array], right: dict[str, Array]) -> float:
    """Relative to the largest value, at least 1, of each output."""
    pairs = [(left[name], right[name]) for name in left]
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)


def _reloads(keras: Any, model: Any, rows: dict[str, Array]) -> bool:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/small.keras")
        again = keras.models.load_model(f"{folder}/small.keras")
    return _difference(_run(model, rows), _run(again, rows)) < 1e-6


def _sequential(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 2), name="picture"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(10, activation="relu"),
            layers.Reshape((1, 1, 10)),
            layers.Conv2D(8, 1, activation="softmax"),
            layers.Flatten(),
            layers.Dense(3, name="value"),
        ]
    )


def _squeezed(keras: Any) -> Any:
    """Squeeze and excitation: a factor for each channel, computed from all of them."""
    layers = keras.layers
    picture = keras.Input((8, 8, 2), name="picture")
    x = layers.Conv2D(12, 3, activation="relu")(picture)
    factor = layers.Reshape((1, 1, 12))(layers.GlobalAveragePooling2D()(x))
    factor = layers.Conv2D(12, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(factor))
    x = layers.Multiply()([x, factor])
    mask = layers.Conv2D(1, 1, activation="sigmoid")(x)  # spread over all channels
    x = layers.GlobalAveragePooling2D()(layers.Multiply()([x, mask]))
    return keras.Model(picture, layers.Dense(3, activation="softmax", name="class")(x))


def _separable(keras: Any) -> Any:
    layers = keras.layers
    picture = keras.Input((8, 8, 2), name="picture")
    x = layers.SeparableConv2D(6, 3, depth_multiplier=2)(picture)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.SeparableConv2D(8, 3, padding="same", depth_multiplier=3, use_bias=False)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(6, 3, strides=2)(layers.LeakyReLU()(x))
    x = layers.Conv2DTranspose(4, 2)(layers.ZeroPadding2D()(layers.UpSampling2D()(x)))
    return keras.Model(picture, layers.Dense(2, name="value")(layers.GlobalMaxPooling2D()(x)))


def _nested(keras: Any) -> Any:
    """A back-bone that is a model of its own, as in transfer learning."""
    layers = keras.layers
    inner_picture = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, activation="relu")(inner_picture)
    backbone = keras.Model(inner_picture, layers.BatchNormalization()(layers.Conv2D(8, 1)(x)), name="backbone")
    head = keras.Sequential([keras.Input((8,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="head")
    picture = keras.Input((8, 8, 2), name="picture")
    x = backbone(layers.Conv2D(4, 1)(picture))
    return keras.Model(picture, head(layers.GlobalAveragePooling2D()(x)))


def _branches(keras: Any) -> Any:
    """Several inputs and outputs as dicts, not in alphabetical order; a group convolution is kept whole."""
    layers = keras.layers
    picture, sensors = keras.Input((8, 8, 2), name="picture"), keras.Input((5,), name="a_sensors")
    left = layers.Conv2D(6, 3, padding="same")(picture)
    right = layers.Conv2D(4, 3, padding="same", activation="relu")(picture)
    both = layers.Concatenate()([left, right, layers.Average()([left, layers.Conv2D(6, 1)(right)])])
    grouped = layers.Conv2D(8, 1, groups=2)(layers.Conv2D(8, 1)(both))
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1)(grouped))
    normalise = layers.Normalization()
    normalise.adapt(np.random.default_rng(1).normal(3, 2, (50, 5)))
    felt = layers.Dense(6, activation="tanh")(normalise(sensors))
    joint = layers.Dense(8, activation="relu")(layers.Concatenate(axis=1)([seen, felt]))
    outputs = {"value": layers.Dense(2, name="value")(joint), "code": layers.Dense(3, name="code")(seen)}
    return keras.Model({"picture": picture, "a_sensors": sensors}, outputs)


def _recurrent(keras: Any) -> Any:
    layers = keras.layers
    series = keras.Input((12, 3), name="series")
    x = layers.Conv1D(8, 3, activation="relu")(series)
    x = layers.Conv1D(6, 3, activation="relu")(x)
    return keras.Model(series, layers.Dense(2, name="value")(layers.LSTM(5, name="memory")(x)))


def _shared(keras: Any) -> Any:
    layers = keras.layers
    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    twin = layers.Dense(6, name="twin")
    return keras.Model([left, right], layers.Dense(2)(layers.Concatenate()([twin(left), twin(right)])))


def _on_picture(keras: Any, between: Callable[[Any], Any]) -> Any:
    picture = keras.Input((8, 8, 2), name="picture")
    x = between(keras.layers.Conv2D(18, 1, name="only")(picture))
    return keras.Model(picture, keras.layers.Flatten()(x))


def main(check: str, place: str) -> None:
    folder = Path(place)
    if check == "graph":
        answer = graph(folder)
    elif check == "channels2":
        import tf_keras

        answer = channels(tf_keras)
    else:
        import keras

        answer = channels(keras)
    (folder / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
