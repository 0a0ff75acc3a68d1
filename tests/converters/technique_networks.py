"""A small MobileNetV2-like network on digits and wine, trained where Keras is: ``python technique_networks.py KIND DATA
OUT EPOCHS``, with DATA an .npz of ``image`` (n, 32, 32, 3) uint8, ``chemistry`` (n, 13) z-scores and ``code`` labels.

Every kind of layer that the techniques must follow is in it: a residual Add, a Concatenate of two branches, batch
normalisation, depthwise convolutions.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

CLASSES = 10
LEARNING_RATE = 3e-3


def network(keras: Any, width: int = 16) -> Any:
    """The untrained hybrid for ``keras`` (version 3) or ``tf_keras`` (version 2)."""
    layers = keras.layers
    image = keras.Input((32, 32, 3), name="image")
    chemistry = keras.Input((13,), name="chemistry")
    x = _norm_relu(
        keras, layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name="stem")(image), "stem"
    )
    x = _block(keras, x, width, "first")
    x = _norm_relu(keras, layers.Conv2D(2 * width, 1, use_bias=False, name="widen")(x), "widen")
    x = layers.MaxPooling2D(name="shrink")(x)
    x = _block(keras, x, 2 * width, "second")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    felt = layers.Dense(24, activation="relu", name="felt")(chemistry)
    both = layers.Concatenate(name="both")([x, felt])
    both = layers.Dense(48, activation="relu", name="hidden")(both)
    code = layers.Dense(CLASSES, activation="softmax", name="code")(both)
    return keras.Model([image, chemistry], code)


def student() -> Any:
    """A quarter of the width, Keras 3."""
    import keras

    return network(keras, width=4)


def _block(keras: Any, x: Any, width: int, name: str) -> Any:
    layers = keras.layers
    inner = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    inner = _norm_relu(keras, inner, f"{name}_depthwise")
    inner = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_project")(inner)
    inner = layers.BatchNormalization(momentum=0.9, name=f"{name}_project_norm")(inner)
    return layers.Add(name=f"{name}_add")([x, inner])


def _norm_relu(keras: Any, x: Any, name: str) -> Any:
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def main(kind: str, data: str, out: str, epochs: str) -> None:
    import tensorflow as tf

    if kind == "keras2":
        import tf_keras as keras
    else:
        import keras

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(7)
    rows = np.load(data)
    model = network(keras)
    steps = -(-len(rows["code"]) // 64) * int(epochs)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    inputs = {"image": rows["image"].astype(np.float32) / 255, "chemistry": rows["chemistry"].astype(np.float32)}
    model.fit(inputs, rows["code"], batch_size=64, epochs=int(epochs), verbose=2)
    model.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
