"""The three Keras models of the example: both inputs, and the two that must do without one of them.

The image tower also learns what it sees (shape, size, finish, scratched or not) through heads that exist only while
training: the label alone teaches it these slowly. What is exported ends at the class probabilities.
"""

from __future__ import annotations

import keras
from dataset import SIDE
from keras import layers
from parts import CLASSES, SENSORS, TEMPERATURE_C, VIBRATION_MM_S, WEIGHT_G

AUXILIARY = {"shape": len(VIBRATION_MM_S), "size": len(WEIGHT_G), "finish": len(TEMPERATURE_C), "scratched": 2}
AUXILIARY_WEIGHT = 0.3


def hybrid() -> tuple[keras.Model, keras.Model]:
    """Inputs ``image`` (n, 96, 96, 3) in 0..1 and ``sensors`` (n, 3) z-scores. Returns the model to export, whose
    output is (n, 5) probabilities, and the model to train, which shares its weights and has the further heads."""
    image, sensors = _image_input(), keras.Input((len(SENSORS),), name="sensors")
    seen = _tower(image)
    felt = layers.Dense(24, activation="relu")(sensors)
    result = _decide(layers.Concatenate()([seen, felt]))
    inputs = {"image": image, "sensors": sensors}
    return keras.Model(inputs, result), keras.Model(inputs, {"fault": result, **_auxiliary(seen)})


def image_only() -> keras.Model:
    image = _image_input()
    seen = _tower(image)
    return keras.Model({"image": image}, {"fault": _decide(seen), **_auxiliary(seen)})


def sensors_only() -> keras.Model:
    sensors = keras.Input((len(SENSORS),), name="sensors")
    felt = layers.Dense(64, activation="relu")(sensors)
    return keras.Model({"sensors": sensors}, {"fault": _decide(felt)})


def _image_input() -> keras.KerasTensor:
    return keras.Input((SIDE, SIDE, 3), name="image")


def _tower(image: keras.KerasTensor) -> keras.KerasTensor:
    # whole convolutions where the picture is large: scratches are thin, and they train faster than separable ones
    x = image
    for filters, strides in ((16, 2), (32, 2), (32, 1), (64, 2)):
        x = _norm_relu(layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x))
    for filters, strides in ((96, 1), (128, 2)):
        x = _norm_relu(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x))
        x = _norm_relu(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.GlobalAveragePooling2D()(x)


def _norm_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.95)(x))


def _decide(x: keras.KerasTensor) -> keras.KerasTensor:
    for _ in range(2):
        x = layers.Dense(64, activation="relu")(x)
    return layers.Dense(len(CLASSES), activation="softmax", name="fault")(x)


def _auxiliary(seen: keras.KerasTensor) -> dict[str, keras.KerasTensor]:
    return {name: layers.Dense(count, activation="softmax", name=name)(seen) for name, count in AUXILIARY.items()}
