"""When the answer of linear pooling is certain before everyone has answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

#: With more members awaited than this nothing is decided early: every subset of them is looked at.
MOST_AWAITED = 8
#: What rounding may add up to in a sum of weighted outputs.
_ROUNDING = 1e-9


def decided_early(
    outputs: NDArray[np.float64],
    awake: NDArray[np.uint64],
    awaited: NDArray[np.uint64],
    pooled: Callable[[int], NDArray[np.float64]],
    highest: float = 1.0,
) -> NDArray[np.bool_]:
    """Which of R open requests have a label that no answer of the awaited members can change.

    Let A be awake, O awaited, ``w(S)`` the weights when S is awake, and c the label by A alone. Whatever
    happens, the members awake in the end are A and some subset S of O, whose outputs are any numbers in
    ``[0, highest]``. The score of class j is then ``sum_A w_i(A+S) p_i[j] + sum_S w_i(A+S) q_i[j]``. For a
    rival j the second sum favours it over c by ``highest * sum_S w_i(A+S)`` at most, and does so when all of
    S answer ``highest`` for j and 0 for c. So c wins in every case if and only if, for every S, its lead in
    the first sum over every j is larger than that; S empty asks for a lead by A alone. Votes are the case
    of one-hot outputs.

    Shapes: outputs R x K x V; awake, awaited R (bit masks of members); result R.

    Args:
        pooled: the weights (shape K) for a mask of awake members; zero where asleep.
        highest: largest number an output may contain.
    """
    certain = np.zeros(len(awake), np.bool_)
    patterns, which = np.unique(np.stack((awake, awaited)), axis=1, return_inverse=True)
    for number, (here, missing) in enumerate(patterns.T.tolist()):
        if here and missing and missing.bit_count() <= MOST_AWAITED:
            rows = np.flatnonzero(which.ravel() == number)
            certain[rows] = _certain(outputs[rows], here, missing, pooled, highest)
    return certain


def _certain(
    outputs: NDArray[np.float64],
    here: int,
    missing: int,
    pooled: Callable[[int], NDArray[np.float64]],
    highest: float,
) -> NDArray[np.bool_]:
    label = np.einsum("k,rkv->rv", pooled(here), outputs).argmax(axis=1)
    each = np.arange(len(outputs))
    certain = np.ones(len(outputs), np.bool_)
    members = range(outputs.shape[1])
    for others in _subsets(missing):
        weights = pooled(here | others)
        known = np.array([weights[k] if here >> k & 1 else 0.0 for k in members])
        swing = highest * sum(float(weights[k]) for k in members if others >> k & 1)
        scores = np.einsum("k,rkv->rv", known, outputs)
        own = scores[each, label]
        scores[each, label] = -np.inf
        certain &= own - scores.max(axis=1) > swing + _ROUNDING
    return certain


def _subsets(mask: int) -> Iterator[int]:
    """Every subset of a bit mask, the empty one too."""
    subset = mask
    while True:
        yield subset
        if not subset:
            return
        subset = (subset - 1) & mask
