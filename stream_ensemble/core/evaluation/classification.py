"""Scores of class probabilities. N rows, C classes; labels are class numbers.

Definitions as in scikit-learn (``accuracy_score``, ``log_loss``, ``f1_score(average="macro")``,
``confusion_matrix``), which the tests compare with. Without rows a score is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Probabilities below this count as this in the log loss.
SMALLEST = 1e-15
#: Equal bins of confidence for the calibration error.
BINS = 15


def accuracy(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Share of rows whose most probable class is the label. Shapes: N x C, N."""
    return Tally.of(p, labels).accuracy


def log_loss(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean negative log probability of the label in nats, clipped at 1e-15. Shapes: N x C, N."""
    return Tally.of(p, labels).log_loss


def macro_f1(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over classes of the harmonic mean of precision and recall; classes neither seen nor predicted are
    left out.

    A class without a true positive scores 0. Shapes: N x C, N.
    """
    return Tally.of(p, labels).macro_f1


def brier(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean over rows of the sum over classes of squared differences to the truth: 0 to 2.

    Shapes: N x C, N.
    """
    return Tally.of(p, labels).brier


def calibration_error(p: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Expected calibration error: over 15 bins of confidence ``(i/15, (i+1)/15]``, the mean distance between
    confidence and accuracy, weighted by rows (Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017).

    Shapes: N x C, N.
    """
    return Tally.of(p, labels).calibration_error


def confusion(p: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often class i (row) was answered as class j (column). Shapes: N x C, N, result C x C."""
    return Tally.of(p, labels).confusion


class Tally:
    """All of the scores over rows that come bit by bit: ``add`` rows, ``merge`` tallies, read the scores.

    Everything held is a sum, so order and split do not matter (to rounding).
    """

    def __init__(self, classes: int) -> None:
        self.confusion: NDArray[np.int64] = np.zeros((classes, classes), np.int64)
        self._log_loss = 0.0
        self._brier = 0.0
        #: Rows: how many, sum of confidences, how many right; a column per bin.
        self._bins = np.zeros((3, BINS))

    @classmethod
    def of(cls, p: NDArray[np.float64], labels: NDArray[np.int64]) -> Tally:
        """The tally of these rows. Shapes: N x C, N."""
        tally = cls(p.shape[1])
        tally.add(p, labels)
        return tally

    def add(self, p: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        """Count more rows. Shapes: N x C, N."""
        rows, classes = np.arange(len(labels)), p.shape[1]
        answer = p.argmax(axis=1)
        pairs = np.bincount(labels * classes + answer, minlength=classes * classes)
        self.confusion += pairs.reshape(classes, classes)
        truth = p[rows, labels]
        self._log_loss -= float(np.log(np.maximum(truth, SMALLEST)).sum())
        self._brier += float(((p**2).sum(axis=1) - 2 * truth + 1).sum())
        confidence = p[rows, answer]
        bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for held, weights in zip(self._bins, (None, confidence, answer == labels), strict=True):
            held += np.bincount(bins, weights, BINS)

    def merge(self, other: Tally) -> None:
        """Count the rows of another tally of as many classes too."""
        self.confusion += other.confusion
        self._log_loss += other._log_loss
        self._brier += other._brier
        self._bins += other._bins

    @property
    def n(self) -> int:
        """Rows counted."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """See :func:`accuracy`."""
        return self._mean(float(np.trace(self.confusion)))

    @property
    def log_loss(self) -> float:
        """See :func:`log_loss`."""
        return self._mean(self._log_loss)

    @property
    def brier(self) -> float:
        """See :func:`brier`."""
        return self._mean(self._brier)

    @property
    def macro_f1(self) -> float:
        """See :func:`macro_f1`."""
        if not self.n:
            return float("nan")
        total = self.confusion.sum(axis=0) + self.confusion.sum(axis=1)
        there = total > 0
        return float((2.0 * np.diag(self.confusion)[there] / total[there]).mean())

    @property
    def calibration_error(self) -> float:
        """See :func:`calibration_error`."""
        _, confidence, right = self._bins
        return self._mean(float(np.abs(confidence - right).sum()))

    def _mean(self, total: float) -> float:
        return total / self.n if self.n else float("nan")
