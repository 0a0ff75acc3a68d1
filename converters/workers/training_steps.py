"""Steps of int8 tensors that learn their size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from converters.workers.protocol import Array

Tensor = Any
_FACTORS = 2.0 ** -np.arange(0, 20, 0.5)
_WORSE_MOST = 2.0  # steps stay as they are unless others leave half the error


def on_steps(x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
    """``x`` rounded to multiples of ``scale`` between ``low`` and ``high`` of them, of the same shape.

    The gradient goes straight through the rounding and stops where values are cut off; that of ``scale`` is the one of
    Esser et al. 2020, arXiv:1902.08153, equation 3.
    """

    def rounded(x: Tensor, scale: Tensor) -> Any:
        ratio = x / scale
        steps = tf.clip_by_value(tf.round(ratio), low, high)

        def gradient(above: Tensor) -> tuple[Tensor, Tensor]:
            inside = tf.logical_and(ratio >= low, ratio <= high)
            slope = steps - tf.where(inside, ratio, tf.zeros_like(ratio))
            return tf.where(inside, above, tf.zeros_like(above)), tf.reduce_sum(above * slope)

        return steps * scale, gradient

    return tf.custom_gradient(rounded)(x, scale)


def start_factor(channels: Sequence[Array], scale: float, low: float, high: float) -> float:
    """By what to multiply ``scale`` before training: 1 as a rule; less where one huge channel leaves the others no
    step, since cutting that one off costs less than all the others.

    ``channels``: arrays (values, channels). Each channel's square error counts in units of its own size, because the
    layer that reads it has weights to match.
    """
    errors = np.array([_lost(channels, scale * factor, low, high) for factor in _FACTORS])
    return float(_FACTORS[np.flatnonzero(errors <= _WORSE_MOST * errors.min())[0]])


def _lost(channels: Sequence[Array], scale: float, low: float, high: float) -> float:
    """The mean over the channels of square error / mean square; one that is always zero loses nothing."""
    lost = []
    for values in channels:
        error = np.square(np.clip(np.rint(values / scale), low, high) * scale - values).mean(axis=0)
        size = np.square(values).mean(axis=0)
        lost.append(np.divide(error, size, out=np.zeros_like(size), where=size > 0))
    return float(np.concatenate(lost).mean()) if lost else 0.0
