"""Geometric pooling of class probabilities and its regrets under log loss.

``q_c ~ prod_i p_i(c)^(tau w_i)``. With ``h_i = tau (log p_i(y) - sum_c q_c log p_i(c))``, the derivative of
``log q(y)`` by ``w_i``, member i's regret is ``r_i = h_i - w.h``.

References:
    Genest, Zidek (1986), Combining probability distributions: a critique and an annotated bibliography.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import Floats, Labels

#: A probability below this share of an even one (1/C) counts as this: one member's zero is no veto.
SMALLEST_SHARE = 0.02
_TINY = 1e-12


def logs_of(outputs: Floats) -> Floats:
    """Logarithms of the probabilities, rows last: they are many, members and classes are few.

    Shapes: outputs R x K x C, result K x C x R.
    """
    columns = np.ascontiguousarray(outputs.transpose(1, 2, 0))
    logs: Floats = np.log(np.maximum(columns, SMALLEST_SHARE / columns.shape[1]))
    return logs


def pool(logs: Floats, exponents: Floats) -> Floats:
    """Pools of G geometric arms. Shapes: logs K x C x R, exponents (tau times weight) R x G x K or 1 x G x K;
    result G x C x R.

    Term after term, so that a row's result does not depend on the other rows.
    """
    by_member = exponents.transpose(2, 1, 0)[:, :, None]
    logits = by_member[0] * logs[0]
    for k in range(1, len(logs)):
        logits += by_member[k] * logs[k]
    logits -= logits.max(axis=1, keepdims=True)
    q = np.exp(logits)
    total = q[:, 0].copy()
    for c in range(1, q.shape[1]):
        total += q[:, c]
    result: Floats = q / total[:, None]
    return result


def regrets(
    logs: Floats, q: Floats, weights: Floats, taus: Floats, awake: NDArray[np.bool_], labels: Labels
) -> Floats:
    """Regrets of the members in each arm, R x G x K; zero where asleep and where within rounding.

    Shapes: logs K x C x R, q the arms' pools of them G x C x R, weights R x G x K or 1 x G x K, taus G, awake
    R x K, labels R.
    """
    h = -np.einsum("gcr,kcr->gkr", q, logs)
    h += logs[:, labels.astype(np.int64), np.arange(len(labels))]
    h *= taus[:, None, None]
    mean = np.einsum("gkr,gkr->gr", np.broadcast_to(weights.transpose(1, 2, 0), h.shape), h)[:, None]
    here = awake.T
    size = np.maximum(np.abs(mean), (np.abs(h) * here).max(axis=1, keepdims=True))
    r = h - mean
    r *= here & (np.abs(r) >= _TINY * size)
    by_row: Floats = r.transpose(2, 0, 1)
    return by_row
