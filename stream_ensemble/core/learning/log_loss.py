"""Regrets under log loss (negative log likelihood of the true class)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: A member cannot be more than this much better than the mixture: one surprise does not rule for ever.
CLIP = 10.0
_TINY = 1e-12


def regrets(
    outputs: NDArray[np.float64],
    weights: NDArray[np.float64],
    awake: NDArray[np.bool_],
    labels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Linearised regret of every member: ``r_i = x_i / m - 1`` with x the probability of the true class and
    m the mixture's.

    Shapes: outputs R x K x C, weights and awake R x K, labels R, result R x K. Zero where asleep, zero where
    m < 1e-12, at most 10,
    and exactly zero where a difference is within rounding.
    """
    truth = outputs[np.arange(len(labels)), :, labels]
    mixture = (weights * truth).sum(axis=1, keepdims=True)
    ratio = truth / np.where(mixture < _TINY, 1.0, mixture)
    r = np.minimum(ratio - 1.0, CLIP)
    largest = np.maximum(1.0, ratio.max(axis=1, keepdims=True, initial=0.0))
    r = np.where(np.abs(r) < _TINY * largest, 0.0, r)
    result: NDArray[np.float64] = np.where(awake & (mixture >= _TINY), r, 0.0)
    return result
