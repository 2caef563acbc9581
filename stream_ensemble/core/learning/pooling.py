"""Unnormalised weights over all members, made into weights over those that are awake."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.contribution import Vector


def over_awake(values: Vector, awake: NDArray[np.bool_], floor: float) -> NDArray[np.float64]:
    """Normalise over the awake; uniform where all of theirs are zero; then keep a share for everyone.

    ``w <- (1 - floor) w + floor / |awake|``, so that nobody is absorbed at zero. Rows with nobody awake are
    zero. Shapes: awake ... x K; values K (not negative), or anything that broadcasts with awake; result
    ... x K.
    """
    count = awake.sum(axis=-1, keepdims=True)
    weights: NDArray[np.float64] = values * awake
    peak = largest(weights)
    # Divided by the largest first: a sum of tiny or huge values neither vanishes nor overflows.
    weights /= np.where(peak > 0, peak, 1.0)
    total = weights.sum(axis=-1, keepdims=True)
    learned = total > 0
    weights *= (1.0 - floor) / np.where(learned, total, 1.0)
    weights += awake * (np.where(learned, floor, 1.0) / np.maximum(count, 1))
    return weights


def largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The largest of the K numbers of each row, none of which is negative; 0 where K is 0.

    Shapes: ... x K, result ... x 1.
    """
    *rows, k = values.shape
    # NumPy's maximum over a short last axis is slow; over the first it is not.
    first = np.ascontiguousarray(values.reshape(math.prod(rows), k).T)
    result: NDArray[np.float64] = first.max(axis=0, initial=0.0).reshape(*rows, 1)
    return result


def mean_of(outputs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted means of R rows. Shapes: outputs R x K x C, weights R x K or 1 x K; result R x C.

    Member after member, so that a row's result does not depend on the other rows.
    """
    fused = weights[:, 0, None] * outputs[:, 0]
    for k in range(1, outputs.shape[1]):
        fused += weights[:, k, None] * outputs[:, k]
    return fused


def pooled_once(
    pool: Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]],
    credit: NDArray[np.float64],
    awake: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Weights of R rows; a single row of them, to be broadcast, where all rows have the same."""
    same = credit.ndim == 1 and bool((awake == awake[:1]).all())
    return pool(credit, awake[:1] if same else awake)


def patterns(awake: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The different sets of awake members: a row of each, and which one each row has. Shapes: R x K."""
    rows, k = awake.shape
    bits = np.zeros((rows, -(-k // 64) * 8), np.uint8)
    bits[:, : -(-k // 8)] = np.packbits(awake, axis=1)
    words = bits.view(np.uint64)
    _, first, which = np.unique(
        words[:, 0] if k <= 64 else words,
        axis=None if k <= 64 else 0,
        return_index=True,
        return_inverse=True,
    )
    return first, which.reshape(rows)
