"""Geometric pooling of class probabilities and its regrets under log loss.

``q_c ~ prod_i p_i(c)^(tau w_i)``. With ``h_i = tau (log p_i(y) - sum_c q_c log p_i(c))``, the derivative of
``log q(y)`` by ``w_i``, member i's regret is ``r_i = h_i - w.h``.

References:
    Genest, Zidek (1986), Combining probability distributions: a critique and an annotated bibliography.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: A probability below this counts as this: one member's zero is no veto.
SMALLEST = 1e-4
_TINY = 1e-12


def pool(outputs: Floats, weights: Floats, taus: Floats) -> Floats:
    """Pools of G geometric arms. Shapes: outputs R x K x C, weights R x G x K, taus G, result R x G x C.

    Term after term, so that a row's result does not depend on the other rows.
    """
    return _pool(np.log(np.maximum(outputs, SMALLEST)), weights * taus[:, None])


def regrets(
    outputs: Floats, weights: Floats, taus: Floats, awake: NDArray[np.bool_], labels: NDArray[np.generic]
) -> tuple[Floats, Floats]:
    """Pools as of :func:`pool`, and regrets of the members in each. Shapes: as there, regrets R x G x K.

    Zero where asleep and where within rounding.
    """
    logs = np.log(np.maximum(outputs, SMALLEST))
    q = _pool(logs, np.broadcast_to(weights * taus[:, None], (len(outputs), *weights.shape[1:])))
    truth = logs[np.arange(len(labels)), :, labels.astype(np.int64)][:, None]
    h = taus[:, None] * (truth - np.matmul(q, logs.transpose(0, 2, 1)))
    mean = (weights * h).sum(axis=2, keepdims=True)
    size = np.maximum(np.abs(mean), np.where(awake[:, None], np.abs(h), 0.0).max(axis=2, keepdims=True))
    r = h - mean
    return q, np.where(awake[:, None] & (np.abs(r) >= _TINY * size), r, 0.0)


def _pool(logs: Floats, exponents: Floats) -> Floats:
    """Softmax over classes of sums of ``exponents`` (R x G x K) times ``logs`` (R x K x C)."""
    logits = exponents[:, :, 0, None] * logs[:, None, 0]
    for k in range(1, logs.shape[1]):
        logits += exponents[:, :, k, None] * logs[:, None, k]
    logits -= logits.max(axis=2, keepdims=True)
    q = np.exp(logits)
    result: Floats = q / q.sum(axis=2, keepdims=True)
    return result
