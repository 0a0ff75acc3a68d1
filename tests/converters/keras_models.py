"""Small untrained models that are awkward to export, written by either Keras: ``python keras_models.py 2|3 FOLDER``.

Runs inside the environment of the framework. Weights and the averages of normalisations are random, the same always.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def functional_models(keras: Any, folder: Path, kind: str) -> None:
    """Several inputs and outputs, given as dicts, lists and alone."""
    layers = keras.layers
    image, chemistry = keras.Input((8, 8, 3), name="image"), keras.Input((5,), name="chemistry")
    normalise = layers.Normalization()
    normalise.adapt(np.random.default_rng(1).normal(100, 30, (50, 5)))
    x = layers.Rescaling(1 / 4, offset=-0.5)(image)
    x = layers.Conv2D(6, 3, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(0.5)(layers.Concatenate()([x, normalise(chemistry)]))
    code, age = layers.Dense(4, activation="softmax", name="code")(x), layers.Dense(1, name="age")(x)
    shift_averages(keras.Model([image, chemistry], code).get_layer("norm"))
    # alphabetical order is what converters sort by: neither of these stands in it
    keras.Model([image, chemistry], [code, age]).save(folder / f"list.{kind}")
    keras.Model({"image": image, "chemistry": chemistry}, {"code": code, "age": age}).save(folder / f"dict.{kind}")
    both = layers.Dense(2, name="pair")(chemistry)
    keras.Model(chemistry, [both * 2.0, both, both + 1.0]).save(folder / f"ops.{kind}")
    series = keras.Input((4, 2), name="series")
    keras.Model(series, layers.LSTM(3, return_state=True, name="memory")(series)).save(folder / f"recurrent.{kind}")


def shift_averages(layer: Any) -> None:
    """A normalisation that is run in training mode, on the batch's own averages, then gives something else."""
    rng = np.random.default_rng(2)
    layer.set_weights([rng.uniform(0.5, 1.5, weights.shape) for weights in layer.get_weights()])


def sequential_models(keras: Any, folder: Path, kind: str) -> None:
    layers = keras.layers
    declared = keras.Sequential([keras.Input((3,), name="reading"), layers.Dense(4), layers.Dense(2, name="score")])
    declared.save(folder / f"sequential.{kind}")
    built = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2, name="score")])
    built(np.zeros((6, 3), np.float32))  # a batch of 6 stays in the model
    built.save(folder / f"built.{kind}")


def refused_models(keras: Any, folder: Path, kind: str) -> None:
    layers = keras.layers
    reading = keras.Input((3,), name="reading")

    class Doubled(layers.Layer):
        def call(self, values: Any) -> Any:
            return 2 * values

    class Subclassed(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, values: Any) -> Any:
            return self.dense(values)

    keras.Model(reading, Doubled()(reading)).save(folder / f"own_layer.{kind}")
    keras.Model(reading, layers.Lambda(lambda values: 2 * values)(reading)).save(folder / f"lambda.{kind}")
    subclassed = Subclassed()
    subclassed(np.zeros((1, 3), np.float32))
    subclassed.save(folder / f"subclassed.{kind}")
    subclassed.export(str(folder / "exported"))  # as a SavedModel it needs no class
    counts = keras.Input((3,), dtype="uint8", name="counts")
    keras.Model(counts, layers.Rescaling(1 / 255)(counts)).save(folder / f"integers.{kind}")
    keras.Model(picture := keras.Input((None, None, 3), name="picture"), layers.Conv2D(1, 1)(picture)).save(
        folder / f"any_size.{kind}"
    )


def saved_models(folder: Path) -> None:
    import tensorflow as tf

    def save(
        name: str, signatures: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, tuple[int | None, ...]]]]
    ) -> None:
        module = tf.Module()
        module.weight = tf.Variable(2.0)

        def bound(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
            return lambda **tensors: function(module.weight, **tensors)

        concrete = {
            key: tf.function(bound(function)).get_concrete_function(
                **{name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in shapes.items()}
            )
            for key, (function, shapes) in signatures.items()
        }
        tf.saved_model.save(module, str(folder / name), signatures=concrete)

    save(
        "two_signatures",
        {
            "small": (lambda weight, b, a: {"z": weight * a, "y": b}, {"b": (None, 3), "a": (None, 2)}),
            "large": (lambda weight, c: {"w": tf.reshape(weight * c, [tf.shape(c)[0], -1])}, {"c": (None, 3, 4)}),
        },
    )
    save("fixed_batch", {"serving_default": (lambda weight, a: {"y": weight * a}, {"a": (8, 3)})})
    save("determinant", {"serving_default": (lambda weight, a: {"y": weight * tf.linalg.det(a)}, {"a": (None, 3, 3)})})
    save("best", {"serving_default": (lambda weight, a: {"y": tf.argmax(weight * a, -1)}, {"a": (None, 3)})})
    tf.saved_model.save(tf.Module(), str(folder / "no_signature"))


def main(version: str, out: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True)
    if version == "2":
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
        import tf_keras as keras
    else:
        import keras
    keras.utils.set_random_seed(11)
    for make in (functional_models, sequential_models, refused_models):
        make(keras, folder, "keras")
    functional_models(keras, folder, "h5")
    if version == "3":
        saved_models(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
