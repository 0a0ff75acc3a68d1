"""The Keras networks of the benchmark, written once for Keras 2 and Keras 3: the module itself is an argument.

Runs inside the environment of the framework, so nothing of the project is imported here.
"""

from __future__ import annotations

from typing import Any

SIDE, CHEMISTRY, CODES = 32, 13, 10
MOMENTUM = 0.9  # of the normalisation's averages: an epoch has only about a hundred steps


def hybrid(keras: Any) -> Any:
    """MobileNetV2-like, untrained. Inputs ``image`` (n, 32, 32, 3) in 0..1 and ``chemistry`` (n, 13) z-scores, output
    ``code`` (n, 10) probabilities. ``keras`` is the module ``keras`` (3) or ``tf_keras`` (2)."""
    # filters, strides, expansion of each inverted residual block
    return _network(keras, 16, [(24, 2, 4), (24, 1, 4), (40, 2, 4), (40, 1, 4)], 96, 96)


def student(keras: Any) -> Any:
    """The same inputs and output in about a quarter of the parameters: what ``hybrid`` is distilled into."""
    return _network(keras, 8, [(16, 2, 3), (16, 1, 3), (24, 2, 3)], 48, 48)


def untrained_student() -> Any:
    """For ``edge-convert distill --student benchmarks/converters/networks_keras.py:untrained_student``."""
    import keras

    return student(keras)


def _network(keras: Any, stem: int, blocks: list[tuple[int, int, int]], head: int, decision: int) -> Any:
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3), name="image")
    chemistry = keras.Input((CHEMISTRY,), name="chemistry")
    x = _normalised(keras, layers.Conv2D(stem, 3, strides=2, padding="same", use_bias=False)(image))
    for filters, strides, expansion in blocks:
        x = _inverted_residual(keras, x, filters, strides, expansion)
    x = _normalised(keras, layers.Conv2D(head, 1, use_bias=False)(x))
    seen = layers.GlobalAveragePooling2D()(x)
    felt = layers.Dense(32, activation="relu")(chemistry)
    both = layers.Concatenate()([seen, felt])
    for _ in range(2):
        both = layers.Dense(decision, activation="relu")(both)
    code = layers.Dense(CODES, activation="softmax", name="code")(both)
    return keras.Model({"image": image, "chemistry": chemistry}, code)


def _inverted_residual(keras: Any, x: Any, filters: int, strides: int, expansion: int) -> Any:
    layers = keras.layers
    channels = x.shape[-1]
    y = _normalised(keras, layers.Conv2D(expansion * channels, 1, use_bias=False)(x))
    y = _normalised(keras, layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y))
    y = layers.Conv2D(filters, 1, use_bias=False)(y)
    y = layers.BatchNormalization(momentum=MOMENTUM)(y)  # a linear bottleneck: no activation
    return layers.Add()([x, y]) if strides == 1 and channels == filters else y


def _normalised(keras: Any, x: Any) -> Any:
    return keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(momentum=MOMENTUM)(x))
