"""A small real hybrid as a float .tflite, made and trained without TensorFlow in a few seconds.

It reads benchmarks/converters/world.py: random convolution features (fixed), dense heads trained on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.converters import world
from converters.records import Example, FloatModel, Tensors
from edge_agent.io.runtimes import create
from edge_agent.records import Array
from tests.simulators.tflite_graph import GraphBuilder

OUTLIER = 2.0**14  # a power of two: scaling by it and back changes no bit of the float result
EPOCHS = 12
BATCH = 64
HIDDEN = {"image_dense": 48, "chemistry_dense": 24, "chemistry_code": 16, "joint": 64}


class Parameters(NamedTuple):
    """The weights of the hybrid: of the fixed convolutions (weights, bias), and of the trained dense layers."""

    convolutions: dict[str, tuple[Array, Array]]
    dense: dict[str, tuple[Array, Array]]


def digits_and_wine(*, swapped: bool = False, own_normalisation: bool = False, hard: bool = False) -> FloatModel:
    """Inputs ``image`` (1, 32, 32, 3), pixel / 255, and ``chemistry`` (1, 13) z-scores; output ``code`` (1, 10).

    ``swapped``: the sensors come first in the file. ``own_normalisation``: ``chemistry`` takes raw readings, SUB and
    MUL inside the graph make z-scores of them. ``hard``: the same function, but one channel between two dense layers
    is OUTLIER times as large: the layer before multiplies it, the layer after divides it (what cross-layer
    equalisation undoes: Nagel et al. 2019, arXiv:1906.04721, section 4.1).
    """
    content = _built(_trained(), swapped, own_normalisation, hard)
    return FloatModel(content=content, kind="tflite", path="digits_and_wine.tflite", sha256="0" * 64)


def inputs_of(split: str, count: int, *, raw: bool = False) -> tuple[Tensors, ...]:
    """The first ``count`` rows of a split as float32 input tensors with a batch of 1; ``raw``: readings unscaled."""
    drawn = _drawn(split)
    images = drawn["pixels"][:count, :, :, ::-1].astype(np.float32) / np.float32(255)
    readings = drawn["readings"][:count]
    if not raw:
        mean, std = _scaling()
        readings = np.clip((readings - mean) / std, -world.CLIP, world.CLIP)
    chemistry = readings.astype(np.float32)
    return tuple({"image": images[i : i + 1], "chemistry": chemistry[i : i + 1]} for i in range(len(images)))


def labels_of(split: str, count: int) -> Array:
    """(count,) int64."""
    labels: Array = _drawn(split)["labels"][:count]
    return labels


def examples_of(split: str, count: int) -> tuple[Example, ...]:
    """The same rows as a data set gives them: BGR pictures, readings in raw units."""
    drawn = _drawn(split)
    rows = zip(drawn["pixels"][:count], drawn["readings"], drawn["labels"], strict=False)
    return tuple(
        Example(
            id=f"{split}-{number}",
            images={"image": pixels},
            features=dict(zip(world.UNITS, readings.tolist(), strict=True)),
            labels={"code": int(label)},
        )
        for number, (pixels, readings, label) in enumerate(rows)
    )


_drawn = cache(world.draw)
_scaling = cache(world.scaling)


def _built(parameters: Parameters, swapped: bool, own_normalisation: bool, hard: bool) -> bytes:
    graph = GraphBuilder()
    names = {"image": (1, world.SIDE, world.SIDE, 3), "chemistry": (1, len(world.UNITS))}
    order = list(names)[::-1] if swapped else list(names)
    inputs = {name: graph.tensor(name, names[name]) for name in order}
    dense = _with_outlier(parameters.dense) if hard else parameters.dense
    features = _features(graph, inputs["image"], parameters.convolutions)
    picture = graph.dense(features, *dense["image_dense"], "image_dense")
    chemistry = inputs["chemistry"]
    if own_normalisation:
        mean, std = _scaling()
        chemistry = graph.multiply(graph.subtract(chemistry, mean, "centred"), 1 / std, "normalised")
    chemistry = graph.dense(chemistry, *dense["chemistry_dense"], "chemistry_dense")
    chemistry = graph.dense(chemistry, *dense["chemistry_code"], "chemistry_code")
    joint = graph.dense(graph.concat([picture, chemistry], "both"), *dense["joint"], "joint")
    logits = graph.dense(joint, *dense["logits"], "logits", relu=False)
    return graph.finish(inputs, {"code": graph.softmax(logits, "probabilities")})


def _features(graph: GraphBuilder, image: int, weights: Mapping[str, tuple[Array, Array]]) -> int:
    found = graph.conv(image, *weights["conv"], "conv", stride=2)
    found = graph.depthwise(found, *weights["depthwise"], "depthwise", stride=2)
    found = graph.conv(found, *weights["pointwise"], "pointwise")
    return graph.reshape(found, (1, int(np.prod(graph.shape(found)))), "flat")


def _with_outlier(dense: Mapping[str, tuple[Array, Array]]) -> dict[str, tuple[Array, Array]]:
    """ReLU(s x) = s ReLU(x) for s > 0: the function stays the same, to the bit."""
    (before, bias), (after, after_bias) = dense["chemistry_dense"], dense["chemistry_code"]
    factors = np.ones(len(bias), np.float32)
    factors[int(np.argmin(np.abs(after).sum(axis=0)))] = OUTLIER  # the channel that matters least
    return {
        **dense,
        "chemistry_dense": (before * factors[:, None], bias * factors),
        "chemistry_code": (after / factors, after_bias),
    }


@cache
def _trained() -> Parameters:
    rng = np.random.default_rng(7)
    convolutions = {
        "conv": (_random(rng, (16, 5, 5, 3), 75), np.zeros(16, np.float32)),
        "depthwise": (_random(rng, (1, 3, 3, 16), 9), np.zeros(16, np.float32)),
        "pointwise": (_random(rng, (32, 1, 1, 16), 16), np.zeros(32, np.float32)),
    }
    rows = inputs_of("train", world.COUNTS["train"])
    pictures = _extracted(convolutions, rows)
    chemistry = np.concatenate([row["chemistry"] for row in rows])
    with threadpool_limits(1):  # matrices this small are slower on more threads, by far where others want them too
        return Parameters(convolutions, _fit(pictures, chemistry, labels_of("train", len(rows)), rng))


def _extracted(convolutions: Mapping[str, tuple[Array, Array]], rows: Sequence[Tensors]) -> Array:
    """(rows, features): the convolutions run in the interpreter that will run them later."""
    graph = GraphBuilder()
    image = graph.tensor("image", (1, world.SIDE, world.SIDE, 3))
    content = graph.finish({"image": image}, {"features": _features(graph, image, convolutions)})
    runtime = create(content, "xnnpack", threads=1, external={})
    found = np.concatenate([runtime.invoke({"image": row["image"]})["features"] for row in rows])
    runtime.close()
    return found


def _fit(pictures: Array, chemistry: Array, labels: Array, rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Adam on the cross-entropy (Kingma and Ba 2015, arXiv:1412.6980), with its usual constants."""
    sources = {
        "image_dense": pictures.shape[1],
        "chemistry_dense": chemistry.shape[1],
        "chemistry_code": HIDDEN["chemistry_dense"],
        "joint": HIDDEN["image_dense"] + HIDDEN["chemistry_code"],
        "logits": HIDDEN["joint"],
    }
    widths = {**HIDDEN, "logits": len(world.LABELS)}
    weights = {
        name: [_random(rng, (widths[name], width), width), np.zeros(widths[name], np.float32)]
        for name, width in sources.items()
    }
    moments = {name: [[np.zeros_like(part)] * 2 for part in parts] for name, parts in weights.items()}
    steps = 0
    for epoch in range(EPOCHS):
        rate = 2e-3 * (1 - epoch / EPOCHS)
        for rows in np.array_split(rng.permutation(len(labels)), len(labels) // BATCH):
            steps += 1
            gradients = _gradients(weights, pictures[rows], chemistry[rows], labels[rows])
            for name, parts in gradients.items():
                for index, gradient in enumerate(parts):
                    first, second = moments[name][index]
                    first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
                    moments[name][index] = [first, second]
                    step = first / (1 - 0.9**steps) / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8)
                    weights[name][index] = (weights[name][index] - rate * step).astype(np.float32)
    return {name: (parts[0], parts[1]) for name, parts in weights.items()}


def _gradients(
    weights: Mapping[str, Sequence[Array]], pictures: Array, chemistry: Array, labels: Array
) -> dict[str, list[Array]]:
    """Of the mean cross-entropy, for each layer: of its weights and of its bias."""

    def forward(name: str, values: Array) -> Array:
        return values @ weights[name][0].T + weights[name][1]

    picture = np.maximum(forward("image_dense", pictures), 0)
    first = np.maximum(forward("chemistry_dense", chemistry), 0)
    second = np.maximum(forward("chemistry_code", first), 0)
    both = np.concatenate([picture, second], axis=1)
    joint = np.maximum(forward("joint", both), 0)
    scores = forward("logits", joint)
    error = np.exp(scores - scores.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    found: dict[str, list[Array]] = {}

    def backward(name: str, source: Array, error: Array) -> Array:
        found[name] = [error.T @ source, error.sum(axis=0)]
        return error @ weights[name][0]

    error = backward("logits", joint, error) * (joint > 0)
    error = backward("joint", both, error) * (both > 0)
    backward("image_dense", pictures, error[:, : picture.shape[1]])
    error = backward("chemistry_code", first, error[:, picture.shape[1] :]) * (first > 0)
    backward("chemistry_dense", chemistry, error)
    return found


def _random(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int) -> Array:
    """He et al. 2015, arXiv:1502.01852."""
    return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
