"""The world of ``benchmarks.drift``: scikit-learn's digits under a camera, eight columns of its breast cancer data as
sensors. A small network trained on 600 digits is the model; the device sees the other 1,197, always with new noise.
"""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift_streams import LIGHTS, Rows, World

DRAWS = 12  # noisy copies of a picture in each condition
COLUMNS = (0, 1, 4, 5, 7, 8, 9, 11)
PICTURE_NAMES = (
    *("image.brightness", "image.contrast", "image.sharpness", "digit.confidence", "digit.entropy"),
    *(f"embedding.{i}" for i in range(8)),
    *("embedding.distance", "digit.class"),
)

Pictures = NDArray[np.float32]


class Classifier:
    """One hidden layer; its 64 activations are the embedding."""

    def __init__(self, pictures: Pictures, digits: NDArray[np.int64]) -> None:
        from sklearn.neural_network import MLPClassifier

        flat = pictures.reshape(len(pictures), -1) / 16
        fitted = MLPClassifier((64,), random_state=0, max_iter=1500, alpha=1e-3).fit(flat, digits)
        self._weights, self._biases = fitted.coefs_, fitted.intercepts_
        hidden = self.hidden(pictures)
        self._mean, self._variance = hidden.mean(0), hidden.var(0) + 0.05
        self._components = np.linalg.svd(hidden - self._mean, full_matrices=False)[2][:8].T

    def hidden(self, pictures: Pictures) -> Rows:
        flat = pictures.reshape(len(pictures), -1) / 16
        return np.maximum(flat @ self._weights[0] + self._biases[0], 0)

    def features(self, pictures: Pictures) -> Rows:
        """(n, 11): confidence, entropy, embedding.0 ... 7, distance; and behind them the class."""
        hidden = self.hidden(pictures)
        logits = hidden @ self._weights[1] + self._biases[1]
        logits -= logits.max(1, keepdims=True)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        entropy = -(shares * np.log(shares + 1e-12)).sum(1)
        away = hidden - self._mean
        distance = np.sqrt((away**2 / self._variance).mean(1))
        return np.column_stack([shares.max(1), entropy, away @ self._components, distance, shares.argmax(1)])


def picture_statistics(pictures: Pictures) -> Rows:
    """(n, 3): mean, standard deviation, logarithm of the Laplacian's variance."""
    inside = pictures[:, 1:-1, 1:-1]
    around = pictures[:, :-2, 1:-1] + pictures[:, 2:, 1:-1] + pictures[:, 1:-1, :-2] + pictures[:, 1:-1, 2:]
    sharpness = np.log((4 * inside - around).var((1, 2)) + 1e-6)
    return np.column_stack([pictures.mean((1, 2)), pictures.std((1, 2)), sharpness])


def conditions(pictures: Pictures) -> dict[str, tuple[Pictures, float]]:
    """Condition -> the pictures under it, and the standard deviation of the sensor's noise (of 16 grey levels)."""
    from scipy.ndimage import gaussian_filter

    shown = {
        "clean": (pictures, 0.5),
        "blur": (gaussian_filter(pictures, (0, 0.45, 0.45)), 0.5),
        "noise": (pictures, 1.2),
        "dark": (pictures * np.float32(0.85), 0.5),
    }
    for level, light in enumerate(np.linspace(0.7, 1.15, LIGHTS)):
        shown[f"light{level}"] = (np.clip(pictures * np.float32(light), 0, 16), 0.5)
    return shown


@cache
def digits_world() -> World:
    from sklearn.datasets import load_breast_cancer, load_digits

    digits = load_digits()
    pictures, truth = digits.images.astype(np.float32), digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(pictures))
    train, seen = order[:600], order[600:]
    model = Classifier(pictures[train], truth[train])
    tables = {}
    for number, (name, (shown, noise)) in enumerate(conditions(pictures[seen]).items()):
        random = np.random.default_rng([1, number])
        draws = []
        for _ in range(DRAWS):
            noisy = np.clip(shown + random.normal(0, noise, shown.shape).astype(np.float32), 0, 16)
            draws.append(np.hstack([picture_statistics(noisy), model.features(noisy)]))
        tables[name] = np.stack(draws, 1).astype(np.float32)
    measured = load_breast_cancer()
    values = measured.data[:, COLUMNS]
    ranks = values.argsort(0).argsort(0)
    scores = np.array([NormalDist().inv_cdf((i + 0.5) / len(values)) for i in range(len(values))])
    mixing = np.linalg.cholesky(np.corrcoef(scores[ranks].T))
    names = tuple(str(measured.feature_names[column]).replace(" ", "_") for column in COLUMNS)
    return World(names + PICTURE_NAMES, tables, np.sort(values, 0), mixing, truth[seen])
