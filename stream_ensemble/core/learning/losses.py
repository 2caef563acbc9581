"""Losses of a fused output, and the linearised regret of every member under them.

A loss sees each output as a point of D numbers and its mixture as the weighted mean m of these points. With
``g = dL/dm`` at the label, member i's regret is ``r_i = g . (m - x_i)``: how much better the mixture would
have done, to first order, with more of i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.pooling import largest

Floats = NDArray[np.float64]
#: Class numbers (classification) or values (regression).
Labels = NDArray[np.int64] | NDArray[np.float64]

_TINY = 1e-12
#: Beyond this a value counts as this, so that no product overflows.
_LARGEST = 1e150
_LARGEST_REGRET = 1e100


class Loss(Protocol):
    """A loss that is convex in the mean."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def clip(self) -> float:
        """No member counts as more than this much better than the mixture in one label."""
        ...

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """What of the outputs the loss looks at. Shapes: R x ... x C, R, result R x ... x D."""
        ...

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """dL/dm. Shapes: R x J x D, R, result R x J x D."""
        ...

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """The loss of fused points. Shapes: R x D, R, result R."""
        ...

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """d2L/dm2; for a loss with a kink, that of the parabola that touches it at m and lies above it.

        Shapes: R x D, R, result R x D.
        """
        ...


@dataclass(frozen=True, slots=True)
class LogLoss:
    """Negative log likelihood of the true class; D = 1, the probability of the true class.

    ``r_i = x_i / m - 1``, at most 10: one surprise does not rule for ever. Nothing is learned where
    m < 1e-12.
    """

    name: str = "log"
    clip: float = 10.0

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        rows = np.arange(len(labels))
        return outputs[rows, ..., labels.astype(np.int64)][..., None]

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        g: Floats = np.where(mean < _TINY, 0.0, -1.0 / np.maximum(mean, _TINY))
        return g

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``; a probability below 1e-15 counts as 1e-15."""
        return -np.log(np.maximum(mean[:, 0], 1e-15))

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        result: Floats = 1.0 / np.maximum(mean, _TINY) ** 2
        return result


@dataclass(frozen=True, slots=True)
class Brier:
    """Sum over classes of squared differences to the true class's indicator (Brier 1950); D = C."""

    name: str = "brier"
    clip: float = _LARGEST_REGRET

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return outputs

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return 2.0 * (mean - _indicator(labels, mean.shape[-1])[:, None])

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        difference = mean - _indicator(labels, mean.shape[-1])
        result: Floats = (difference**2).sum(axis=1)
        return result

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return np.full(mean.shape, 2.0)


@dataclass(frozen=True, slots=True)
class Square:
    """Squared error, summed over the output's D values. ``r_i = 2 (m - y) (m - x_i)``."""

    name: str = "square"
    clip: float = _LARGEST_REGRET

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return _bounded(outputs)

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return 2.0 * (mean - _bounded(labels)[:, None, None])

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        result: Floats = ((mean - _bounded(labels)[:, None]) ** 2).sum(axis=1)
        return result

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return np.full(mean.shape, 2.0)


@dataclass(frozen=True, slots=True)
class Absolute:
    """Absolute error, summed over the output's D values. ``r_i = sign(m - y) (m - x_i)``."""

    name: str = "absolute"
    clip: float = _LARGEST_REGRET

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return _bounded(outputs)

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return np.sign(mean - _bounded(labels)[:, None, None])

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        result: Floats = np.abs(mean - _bounded(labels)[:, None]).sum(axis=1)
        return result

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return _above_a_kink(mean - _bounded(labels)[:, None])


@dataclass(frozen=True, slots=True)
class Pinball:
    """Quantile loss (Koenker, Bassett 1978), mean over D quantiles ``taus``.

    ``r_i = mean_q (1[m_q > y] - tau_q) (m_q - x_iq)``.
    """

    taus: tuple[float, ...]
    name: str = "pinball"
    clip: float = _LARGEST_REGRET

    def points(self, outputs: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        return _bounded(outputs)

    def gradient(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        above = mean > _bounded(labels)[:, None, None]
        g: Floats = (above - np.array(self.taus)) / len(self.taus)
        return g

    def loss(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``."""
        over = mean - _bounded(labels)[:, None]
        taus = np.array(self.taus)
        result: Floats = np.where(over > 0, (1 - taus) * over, -taus * over).mean(axis=1)
        return result

    def curvature(self, mean: Floats, labels: Labels) -> Floats:
        """See ``Loss``; the kink is half that of an absolute value."""
        return _above_a_kink(mean - _bounded(labels)[:, None]) / (2 * len(self.taus))


def regrets(loss: Loss, points: Floats, weights: Floats, awake: NDArray[np.bool_], labels: Labels) -> Floats:
    """Linearised regrets of K members against J mixtures of them.

    Shapes: points R x K x D (zeros where asleep), weights R x J x K or 1 x J x K (the same for all rows),
    awake R x K, labels R; result R x J x K. Exactly zero where asleep, and where a difference is within
    rounding: below 1e-12 of the larger of ``|g m|`` and ``max |g x_i|``.
    """
    mean = np.matmul(weights, points)
    gradient = loss.gradient(mean, labels)
    of_mean = (gradient * mean).sum(axis=2, keepdims=True)
    of_members = np.matmul(gradient, points.transpose(0, 2, 1))
    size = np.maximum(np.abs(of_mean), largest(np.abs(of_members)))
    r: Floats = of_mean - of_members
    significant = awake[:, None] & (np.abs(r) >= _TINY * size)
    np.minimum(r, loss.clip, out=r)
    np.maximum(r, -_LARGEST_REGRET, out=r)
    r *= significant
    return r


def loss_of(loss: Loss, outputs: Floats, labels: Labels) -> Floats:
    """The loss of R outputs, at most 1e100, so that a sum of many is a number. Shapes: R x C, R, result R."""
    found: Floats = np.minimum(loss.loss(loss.points(outputs, labels), labels), _LARGEST_REGRET)
    return found


def own_regrets(
    loss: Loss, outputs: Floats, weights: Floats, awake: NDArray[np.bool_], labels: Labels
) -> Floats:
    """Regrets from the members' own losses, not the fused one's: ``r_i = sum_j w_j l_j - l_i``.

    Shapes: outputs R x K x C, weights R x K or 1 x K, awake R x K, labels R, result R x K. Zero where asleep
    and where within rounding: below 1e-12 of the largest loss.
    """
    own = np.stack(
        [loss.loss(loss.points(outputs[:, k], labels), labels) for k in range(outputs.shape[1])], axis=1
    )
    own = np.where(awake, own, 0.0)
    r = (weights * own).sum(axis=1, keepdims=True) - own
    significant = awake & (np.abs(r) >= _TINY * np.abs(own).max(axis=1, keepdims=True))
    result: Floats = np.where(significant, np.clip(r, -_LARGEST_REGRET, _LARGEST_REGRET), 0.0)
    return result


def _above_a_kink(distances: Floats) -> Floats:
    """``1 / |u|``: the curvature of the parabola that touches ``|u|`` there and is centred on the kink."""
    sizes = np.abs(distances)
    mean = sizes.mean()
    result: Floats = 1.0 / np.maximum(sizes, 1e-6 * mean if mean > 0 else 1.0)
    return result


def _bounded(values: Labels) -> Floats:
    return np.clip(values.astype(np.float64), -_LARGEST, _LARGEST)


def _indicator(labels: Labels, classes: int) -> Floats:
    result = np.zeros((len(labels), classes))
    result[np.arange(len(labels)), labels.astype(np.int64)] = 1.0
    return result
