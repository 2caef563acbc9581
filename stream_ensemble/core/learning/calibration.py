"""Calibration: fused probabilities made as sure as they are right, by temperatures learned from the labels.

Two questions are asked of a fused output p. How sure is it of its first class: ``c(T) = p_top^(1/T) /
sum_j p_j^(1/T)``, with a temperature T that depends on how sure it was. And how is what is left shared by the
other classes: ``p_j^(1/T)`` again, with a temperature of their own. The log loss is the sum of two losses, of
right or wrong, and of which other class where it was wrong; so each temperature is chosen by its own, and the
class that is answered stays the same.

State is sums of both losses at the temperatures of a grid, old labels discounted. They are those of the
output before it was calibrated, as of the credit of its request: so they add up in any order, a correction
takes its own back, and nothing that is learned of the members depends on them. Between the points of the grid
the lowest loss is that of the parabola through the three around it.

References:
    Guo, Pleiss, Sun, Weinberger (2017), On calibration of modern neural networks, for temperatures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Algorithm, Labelled
from stream_ensemble.core.learning.beside import Beside
from stream_ensemble.core.learning.contribution import PER_ARM, Contribution
from stream_ensemble.messages import Calibration

#: The array of the losses: by knot and temperature, then the other classes' by temperature.
LOSSES = PER_ARM + "calibration"
#: Labels until an old one counts half; as the top of ``bank`` under log loss.
HALF_LIFE = 2000.0
#: Logarithms of the temperatures tried: a quarter to four.
GRID = np.linspace(-np.log(4.0), np.log(4.0), 17)
#: Log-odds of the first class for which it has a temperature of its own; between two, their logarithms are
#: interpolated.
KNOTS = np.linspace(-2.0, 6.0, 5)
#: How strongly the temperature of all is drawn to 1, that of a knot to that of all, that of the others to 1:
#: as some hundred labels would that say so.
_PULL = 50.0
#: A probability below this counts as this.
_SMALLEST = 1e-12
#: How much more probable than the next class the first stays at least, as a share.
_AHEAD = 1e-12


class Calibrated(Beside[Mixing]):
    """An algorithm that keeps beside its sums the losses which the temperatures are chosen by.

    They are taught by labels that say what was issued (``Labelled.issued``), and by no others.
    """

    def __init__(self, inner: Additive[Mixing]) -> None:
        super().__init__(inner, {LOSSES: HALF_LIFE})

    def added(self, own: Increments, mixing: Mixing, labelled: Labelled) -> Mapping[str, Floats]:
        """See ``Beside``."""
        if labelled.issued is None:
            return {}
        return {LOSSES: losses(labelled.issued, labelled.labels.astype(np.int64))}


def by_name(by: Calibration) -> dict[str, float]:
    """The temperatures: of the first class by its log-odds, and "rest"."""
    names = [f"{knot:g}" for knot in KNOTS]
    return {**dict(zip(names, by.confidence, strict=True)), "rest": by.rest}


def calibrates(algorithm: Algorithm) -> bool:
    """Are its fused outputs to be calibrated?"""
    while isinstance(algorithm, Beside):
        if isinstance(algorithm, Calibrated):
            return True
        algorithm = algorithm.inner
    return False


def calibration_of(whole: Contribution) -> Calibration | None:
    """The temperatures that were learned; None: there is no label yet."""
    sums = whole.sums.get(LOSSES)
    return None if sums is None else of_numbers(temperatures(sums))


def of_numbers(found: Floats) -> Calibration:
    """Temperatures as they are written. Shape: knots + 1."""
    *confidence, rest = found.tolist()
    return Calibration(confidence=tuple(confidence), rest=rest)


def losses(p: Floats, labels: NDArray[np.int64]) -> Floats:
    """What R labels teach, a row each: R x (knots + 1) * temperatures. Zero where nobody answered.

    Shapes: p R x C, not calibrated; labels R.
    """
    rows = np.arange(len(p))
    odds, top = _odds(p)
    wrong = labels != top
    at = _at_knots(odds)
    of_truth = np.where(wrong, odds[labels, rows], 0.0)
    confidence, others = np.empty((2, len(p), len(GRID)))
    for i, sharpness in enumerate(np.exp(-GRID).tolist()):
        left = np.exp(odds * sharpness).sum(axis=0)
        lost = np.where(wrong, np.log(left), 0.0)
        confidence[:, i] = np.log1p(left) - lost
        others[:, i] = lost - sharpness * of_truth
    found = np.concatenate([(at[:, :, None] * confidence[:, None]).reshape(len(p), -1), others], axis=1)
    result: Floats = found * (p[rows, top] > 0)[:, None]
    return result


def temperatures(sums: Floats) -> Floats:
    """The temperatures by knot, and that of the other classes, of S states.

    Shapes: sums (S x) (knots + 1) * temperatures, result (S x) (knots + 1).
    """
    by_knot, others = np.split(
        sums.reshape(*sums.shape[:-1], len(KNOTS) + 1, len(GRID)), [len(KNOTS)], axis=-2
    )
    of_all = _lowest(by_knot.sum(axis=-2, keepdims=True) + _pull(0.0))
    found = [_lowest(by_knot + _pull(of_all[..., None])), _lowest(others + _pull(0.0))]
    result: Floats = np.exp(np.concatenate(found, axis=-1))
    return result


def calibrated(p: Floats, by: Calibration) -> Floats:
    """The outputs of R requests at these temperatures; the most probable class stays the first.

    Shapes: p R x C, result R x C; zeros stay zeros. A row's result does not depend on the others, to the last
    bit.
    """
    return calibrated_at(p, np.array([[*by.confidence, by.rest]]))


def calibrated_at(p: Floats, temperature: Floats) -> Floats:
    """The same at temperatures of each row, R x (knots + 1), or of all, 1 x (knots + 1)."""
    rows = np.arange(len(p))
    odds, top = _odds(p)
    # Of two knots at most, so the order of adding makes no difference.
    sharpness = np.exp(-(_at_knots(odds) * np.log(temperature[:, :-1])).sum(axis=1))
    left = _total(np.exp(odds * sharpness))
    others = np.exp(odds / temperature[:, -1])
    others /= _total(others)
    next_ = others.max(axis=0)
    least = next_ / (1.0 + next_) * (1.0 + _AHEAD)
    others *= np.minimum(left / (1.0 + left), 1.0 - least)
    others[top, rows] = np.maximum(1.0 / (1.0 + left), least)
    others *= p[rows, top] > 0
    return np.ascontiguousarray(others.T)


def _odds(p: Floats) -> tuple[Floats, NDArray[np.intp]]:
    """Logarithms of the probabilities over that of the first class, rows last, for itself -inf; and which it
    is.

    Shapes: p R x C; results C x R, R.
    """
    rows, top = np.arange(len(p)), p.argmax(axis=1)
    odds = np.log(np.maximum(np.ascontiguousarray(p.T), _SMALLEST))
    odds -= odds[top, rows]
    odds[top, rows] = -np.inf
    return odds, top


def _at_knots(odds: Floats) -> Floats:
    """How much each row belongs to each knot; 1 in all, at two knots at most. Shapes: C x R, result
    R x knots."""
    place = (-np.log(_total(np.exp(odds))) - KNOTS[0]) / (KNOTS[1] - KNOTS[0])
    distance = np.abs(np.clip(place, 0.0, len(KNOTS) - 1.0)[:, None] - np.arange(len(KNOTS)))
    result: Floats = np.maximum(1.0 - distance, 0.0)
    return result


def _total(columns: Floats) -> Floats:
    """Sums over the first axis, one after the other whatever the number of rows. Shapes: C x R, result R."""
    result: Floats = np.add.accumulate(columns, axis=0)[-1]
    return result


def _pull(to: Floats | float) -> Floats:
    """What is added to the losses of the grid to draw the lowest there."""
    result: Floats = 0.5 * _PULL * (GRID - to) ** 2
    return result


def _lowest(at: Floats) -> Floats:
    """Where the parabola through the lowest point of the grid and its neighbours is lowest.

    Shapes: ... x temperatures, result ...: logarithms of temperatures.
    """
    lowest = np.clip(at.argmin(axis=-1), 1, len(GRID) - 2)[..., None]
    before, here, after = (np.take_along_axis(at, lowest + step, -1)[..., 0] for step in (-1, 0, 1))
    bend = before - 2.0 * here + after
    moved = 0.5 * (before - after) / np.where(bend > 0, bend, 1.0) * (bend > 0)
    result: Floats = GRID[lowest[..., 0]] + np.clip(moved, -1.0, 1.0) * (GRID[1] - GRID[0])
    return result
