"""The best fixed convex combination in hindsight: what an algorithm's loss is measured against.

Newton's method over the simplex: each step minimises the parabola that touches the mean loss at the current
weights (for a loss with a kink: one that lies above it), by an active set. Where members sleep, weights are
renormalised over the awake; the loss is then no longer convex in them, and a local minimum is found.

References:
    Nocedal, Wright (2006), Numerical optimization, chapter 16 (active sets); Hunter, Lange (2000), Quantile
    regression via an MM algorithm (parabolas above a kink).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.contribution import Vector
from stream_ensemble.core.learning.losses import Floats, Labels, Loss

_STEPS = 200
_ENOUGH = 1e-11


def best_convex(
    loss: Loss, outputs: Floats, awake: NDArray[np.bool_], labels: Labels
) -> tuple[Vector, float]:
    """Weights (K, sum 1) and their mean loss over R rows, in each of which somebody is awake.

    Shapes: outputs R x K x C (zeros where asleep), awake R x K, labels R.
    """
    points = loss.points(outputs, labels)
    k = points.shape[1]
    w = np.full(k, 1.0 / k)
    value = _value(loss, points, awake, labels, w)
    for _ in range(_STEPS):
        slope, curvature = _parabola(loss, points, awake, labels, w)
        step = _lowest(w, slope, curvature) - w
        length, lower = 1.0, _value(loss, points, awake, labels, w + step)
        while lower > value and length > 1e-9:
            length /= 4
            lower = _value(loss, points, awake, labels, w + length * step)
        if not lower < value:
            break
        gained, w, value = value - lower, w + length * step, lower
        if gained <= _ENOUGH * abs(value):
            break
    return w / w.sum(), value


def _mixed(points: Floats, awake: NDArray[np.bool_], w: Vector) -> tuple[Floats, Floats]:
    """The mixtures, R x D, and the weight awake, R; evenly where those awake have none."""
    live = awake * w
    total = live.sum(axis=1)
    none = total <= 0
    live[none] = awake[none] / awake.shape[1]
    total[none] = live[none].sum(axis=1)
    mean: Floats = np.matmul(live[:, None], points)[:, 0] / total[:, None]
    return mean, total


def _value(loss: Loss, points: Floats, awake: NDArray[np.bool_], labels: Labels, w: Vector) -> float:
    return float(loss.loss(_mixed(points, awake, w)[0], labels).mean())


def _parabola(
    loss: Loss, points: Floats, awake: NDArray[np.bool_], labels: Labels, w: Vector
) -> tuple[Vector, Floats]:
    """Slope (K) and curvature (K x K) of the mean loss in w."""
    mean, total = _mixed(points, awake, w)
    moved = (points - mean[:, None]) * (awake / total[:, None])[:, :, None]
    gradient = loss.gradient(mean[:, None], labels)[:, 0]
    slope = np.einsum("rd,rkd->k", gradient, moved) / len(points)
    root = np.sqrt(loss.curvature(mean, labels))
    by_place = (moved * root[:, None]).transpose(1, 0, 2).reshape(moved.shape[1], -1)
    return slope, by_place @ by_place.T / len(points)


def _lowest(w: Vector, slope: Vector, curvature: Floats) -> Vector:
    """The lowest point of the parabola over the simplex, from w in it."""
    k = len(w)
    # Where it is flat any point will do.
    H = curvature + np.eye(k) * (1e-12 * np.trace(curvature) / k + 1e-300)
    x, free = w.copy(), w > 0
    for _ in range(20 * k + 20):
        here = slope + H @ (x - w)
        step, level = _within(H, here, free)
        blocked = free & (step < 0) & (x + step < 0)
        if blocked.any():
            reach = np.where(blocked, x / np.where(blocked, -step, 1.0), np.inf)
            first = int(reach.argmin())
            x = np.maximum(x + reach[first] * step, 0.0)
            x[first], free[first] = 0.0, False
            continue
        x = x + step
        gain = np.where(free, 0.0, slope + H @ (x - w) + level)
        enters = int(gain.argmin())
        if gain[enters] >= -1e-12 * np.abs(slope).max():
            break
        free[enters] = True
    result: Vector = x / x.sum()
    return result


def _within(H: Floats, here: Vector, free: NDArray[np.bool_]) -> tuple[Vector, float]:
    """The step to the lowest point, the others held at zero, and minus the slope left along the simplex."""
    places = np.flatnonzero(free)
    n = len(places)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = H[np.ix_(places, places)]
    system[n, n] = 0.0
    # In units of the largest curvature, so that one row of ones is neither huge nor tiny beside it.
    unit = max(float(np.abs(system[:n, :n]).max()), 1e-300)
    system[:n, :n] /= unit
    solved = np.linalg.lstsq(system, np.append(-here[places] / unit, 0.0), rcond=None)[0]
    step = np.zeros(len(free))
    step[places] = solved[:n]
    return step, float(solved[n] * unit)
