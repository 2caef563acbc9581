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
#: A probability below this share of an even one (1/C) counts as this: one member's zero is no veto.
SMALLEST_SHARE = 0.02
_TINY = 1e-12


def pool(columns: Floats, exponents: Floats) -> Floats:
    """Pools of G geometric arms. Shapes: columns K x C x R, exponents (tau times weight) R x G x K or
    1 x G x K; result G x C x R.

    Term after term, so that a row's result does not depend on the other rows.
    """
    return _pool(_logs(columns), exponents)


def regrets(
    outputs: Floats, weights: Floats, taus: Floats, awake: NDArray[np.bool_], labels: NDArray[np.generic]
) -> tuple[Floats, Floats]:
    """What each arm's pool gives the truth, R x G, and the regrets of the members in it, R x G x K.

    Shapes: outputs R x K x C, weights R x G x K or 1 x G x K, taus G, awake R x K, labels R. A regret is zero
    where asleep and where within rounding.
    """
    logs = _logs(outputs.transpose(1, 2, 0))
    q = _pool(logs, weights * taus[:, None])
    rows, classes = np.arange(len(labels)), labels.astype(np.int64)
    h = -np.einsum("gcr,kcr->gkr", q, logs)
    h += logs[:, classes, rows]
    h *= taus[:, None, None]
    mean = np.einsum("gkr,gkr->gr", np.broadcast_to(weights.transpose(1, 2, 0), h.shape), h)[:, None]
    here = awake.T
    size = np.maximum(np.abs(mean), np.where(here, np.abs(h), 0.0).max(axis=1, keepdims=True))
    r = h - mean
    r = np.where(here & (np.abs(r) >= _TINY * size), r, 0.0)
    return q[:, classes, rows].T, r.transpose(2, 0, 1)


def _logs(columns: Floats) -> Floats:
    logs: Floats = np.log(np.maximum(columns, SMALLEST_SHARE / columns.shape[1]))
    return logs


def _pool(logs: Floats, exponents: Floats) -> Floats:
    """Softmax over classes of sums of ``exponents`` times ``logs`` (K x C x R); result G x C x R."""
    by_member = exponents.transpose(2, 1, 0)[:, :, None]
    logits = by_member[0] * logs[0]
    for k in range(1, len(logs)):
        logits += by_member[k] * logs[k]
    logits -= logits.max(axis=1, keepdims=True)
    q = np.exp(logits)
    result: Floats = q / q.sum(axis=1, keepdims=True)
    return result
