"""What a backtest gave, beside the members, the plain average and the best fixed weights in hindsight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.backtest.conditions import member_losses
from stream_ensemble.core.evaluation.classification import calibration_error
from stream_ensemble.core.learning.backtest import Played, Stream
from stream_ensemble.core.learning.calibrated_play import PlayedCalibrated
from stream_ensemble.core.learning.calibration import by_name
from stream_ensemble.core.learning.hindsight import best_convex
from stream_ensemble.core.learning.losses import Floats, Labels, Loss
from stream_ensemble.core.learning.pooling import mean_of

SPANS = 20
#: Losses of class probabilities.
PROBABILITIES = ("log", "brier")


@dataclass(frozen=True, slots=True)
class CalibrationFigures:
    """Expected calibration errors of the most probable class (see ``core/evaluation``).

    Attributes:
        error: of the fused outputs.
        uniform: of the plain average.
        calibrated, calibrated_loss: of the calibrated outputs, and their mean loss; None: not asked for.
        temperatures: what the last row was calibrated with: by log-odds of its first class, and "rest".
    """

    error: float
    uniform: float
    calibrated: float | None = None
    calibrated_loss: float | None = None
    temperatures: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Mean losses over the requests that somebody answered.

    Attributes:
        members: each over the requests it answered itself; NaN if none.
        best_single: the lowest loss of one member, the plain average standing in where it slept.
        best_convex: that of the best fixed weights in hindsight.
        weights: at the end, with everyone awake.
        spans: 20 even parts of the stream: first row, loss, the plain average's loss, mean weights.
        calibration: of class probabilities; None: the outputs are something else.
    """

    loss: float
    members: dict[str, float]
    uniform: float
    best_single: float
    best_convex: float
    best_convex_weights: dict[str, float]
    weights: dict[str, float]
    labels: int
    requests: int
    unanswered: int
    spans: list[dict[str, Any]]
    calibration: CalibrationFigures | None


def figures(
    stream: Stream,
    loss: Loss,
    members: tuple[str, ...],
    played: Played,
    calibrated: PlayedCalibrated | None = None,
) -> Figures:
    """Score what was played. K members."""
    answered = np.asarray(stream.awake.any(axis=1))
    outputs, awake, labels = stream.outputs[answered], stream.awake[answered], stream.labels[answered]
    own = member_losses(loss, outputs, awake, labels)
    even = mean_of(outputs, awake / awake.sum(axis=1, keepdims=True))
    plain = loss.loss(loss.points(even, labels), labels)
    alone = np.where(awake, own, plain[:, None]).mean(axis=0)
    weights, in_hindsight = best_convex(loss, outputs, awake, labels)
    seen = awake.sum(axis=0)
    means = np.where(seen > 0, np.nansum(own, axis=0) / np.maximum(seen, 1), np.nan)
    ours, shares = played.losses[answered], played.weights[answered]
    return Figures(
        loss=float(ours.mean()),
        members=_by_name(members, means),
        uniform=float(plain.mean()),
        best_single=float(alone.min()),
        best_convex=in_hindsight,
        best_convex_weights=_by_name(members, weights),
        weights=_by_name(members, played.final),
        labels=played.n,
        requests=len(answered),
        unanswered=int((~answered).sum()),
        spans=_spans(np.flatnonzero(answered), ours, plain, shares, members),
        calibration=_calibration(loss, labels, played.fused[answered], even, calibrated, answered)
        if loss.name in PROBABILITIES
        else None,
    )


def _calibration(
    loss: Loss,
    labels: Labels,
    fused: Floats,
    even: Floats,
    calibrated: PlayedCalibrated | None,
    answered: NDArray[np.bool_],
) -> CalibrationFigures:
    """Shapes: labels R, fused and even R x C: the rows that were ``answered`` (T)."""
    classes = labels.astype(np.int64)
    errors = calibration_error(fused, classes), calibration_error(even, classes)
    if calibrated is None:
        return CalibrationFigures(*errors)
    outputs = calibrated.fused[answered]
    return CalibrationFigures(
        *errors,
        calibration_error(outputs, classes),
        float(loss.loss(loss.points(outputs, labels), labels).mean()),
        by_name(calibrated.last),
    )


def without_nan(value: float) -> float | None:
    """As JSON can say it."""
    return None if math.isnan(value) else value


def _by_name(members: tuple[str, ...], values: Floats) -> dict[str, float]:
    return dict(zip(members, values.tolist(), strict=True))


def _spans(
    rows: NDArray[np.int64],
    ours: Floats,
    plain: Floats,
    shares: Floats,
    members: tuple[str, ...],
) -> list[dict[str, Any]]:
    edges = np.linspace(0, len(rows), min(SPANS, len(rows)) + 1).astype(int).tolist()
    return [
        {
            "first": int(rows[a]),
            "loss": float(ours[a:b].mean()),
            "uniform": float(plain[a:b].mean()),
            "weights": _by_name(members, shares[a:b].mean(axis=0)),
        }
        for a, b in pairwise(edges)
    ]
