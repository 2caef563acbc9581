"""Scores of class probabilities. N rows, C classes; labels are class numbers.

Definitions as in scikit-learn (``accuracy_score``, ``log_loss``, ``f1_score(average="macro")``), which the tests compare with.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Probabilities below this count as this in the log loss.
SMALLEST = 1e-15


def accuracy(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of rows whose most probable class is the label; NaN without rows. Shapes: N x C, N."""
    return float((p.argmax(axis=1) == labels).mean()) if len(labels) else float("nan")


def log_loss(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean negative log probability of the label in nats, clipped at 1e-15; NaN without rows. Shapes: N x C, N."""
    if not len(labels):
        return float("nan")
    truth = p[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(truth, SMALLEST)).mean())


def macro_f1(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over classes of the harmonic mean of precision and recall; classes neither seen nor predicted are left out.

    A class without a true positive scores 0. NaN without rows. Shapes: N x C, N.
    """
    if not len(labels):
        return float("nan")
    counts = confusion(p, labels)
    hits = np.diag(counts)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    there = total > 0
    return float((2.0 * hits[there] / total[there]).mean())


def confusion(p: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often class i (row) was answered as class j (column). Shapes: N x C, N, result C x C."""
    classes = p.shape[1]
    flat = np.bincount(labels * classes + p.argmax(axis=1), minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)
