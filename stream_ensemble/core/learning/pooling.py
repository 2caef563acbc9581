"""Unnormalised weights over all members, made into weights over those that are awake."""

from __future__ import annotations

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
    raw = np.where(awake, values, 0.0)
    peak = raw.max(axis=-1, keepdims=True)
    # Divided by the largest first: a sum of tiny or huge values neither vanishes nor overflows.
    raw = raw / np.where(peak > 0, peak, 1.0)
    total = raw.sum(axis=-1, keepdims=True)
    share = awake / np.maximum(count, 1)
    weights = np.where(total > 0, raw / np.where(total > 0, total, 1.0), share)
    result: NDArray[np.float64] = (1.0 - floor) * weights + floor * share
    return result


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
