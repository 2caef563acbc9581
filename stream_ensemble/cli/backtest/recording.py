"""A recorded stream of predictions and labels, checked against the loss it is to be played with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import (
    Absolute,
    Brier,
    Floats,
    Labels,
    LogLoss,
    Loss,
    Pinball,
    Square,
)
from stream_ensemble.errors import SettingsError

LOSSES = ("log", "brier", "square", "absolute", "pinball")
OF_CLASSES = ("log", "brier")
#: How far the probabilities of an output may be from summing to 1.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Recording:
    """T requests to K members, as they were recorded.

    Attributes:
        outputs: T x K x C, zeros where asleep.
        awake: T x K.
        labels: T.
        members: K names.
        segments: T, the number of each request's segment; None: no segments.
    """

    outputs: Floats
    awake: NDArray[np.bool_]
    labels: Labels
    members: tuple[str, ...]
    segments: NDArray[np.int64] | None


@dataclass(frozen=True, slots=True)
class Raw:
    """What stands in a file: P (T x K or T x K x C), y (T), K names, and the quantiles if it says them."""

    P: NDArray[Any]
    y: NDArray[Any]
    names: Sequence[str] | None = None
    taus: Sequence[float] | None = None
    columns: Mapping[str, NDArray[Any]] | None = None


def checked(raw: Raw, loss_name: str, segments: str | None) -> tuple[Recording, Loss]:
    """The recording and its loss.

    Args:
        segments: the column of the file that says each request's segment.

    Raises:
        SettingsError: an array has a wrong shape or value, or the loss does not fit. The message says where.
    """
    P, y = _numbers(raw.P, "P"), raw.y
    if P.ndim not in (2, 3) or 0 in P.shape:
        raise SettingsError(f"P has the shape {P.shape}: expected T x K or T x K x C, none of them 0")
    if y.shape != P.shape[:1]:
        raise SettingsError(f"y has the shape {y.shape}: expected {P.shape[:1]}, one label for each row of P")
    members = _names(raw.names, P.shape[1])
    outputs = P[..., None] if P.ndim == 2 else P
    infinite = np.asarray(np.isinf(outputs).any(axis=2))
    if infinite.any():
        raise SettingsError(f"P is infinite {_place(infinite, members)}; NaN says that a member sleeps")
    awake = ~np.asarray(np.isnan(outputs).any(axis=2))
    if loss_name in OF_CLASSES:
        outputs = _probabilities(outputs, awake, members, loss_name)
        labels: Labels = _classes(y, outputs.shape[2])
        loss: Loss = LogLoss() if loss_name == "log" else Brier()
    else:
        labels = _numbers(y, "y")
        wrong = ~np.isfinite(labels)
        if wrong.any():
            raise SettingsError(f"y is {labels[wrong][0]} {_row(wrong)}; expected a number in every row")
        loss = _value_loss(loss_name, outputs.shape[2], raw.taus)
    outputs = np.where(awake[..., None], outputs, 0.0)
    return Recording(outputs, awake, labels, members, _segments(raw, segments, len(y))), loss


def _numbers(array: NDArray[Any], name: str) -> Floats:
    if array.dtype.kind not in "fiub":
        raise SettingsError(f"{name} holds {array.dtype}: expected numbers")
    return array.astype(np.float64)


def _names(names: Sequence[str] | None, k: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"member{i}" for i in range(k))
    if len(names) != k:
        raise SettingsError(f"names has {len(names)} names: expected {k}, one for each member in P")
    if len(set(names)) != k:
        raise SettingsError(f"names are {', '.join(names)}: expected different names")
    return tuple(names)


def _probabilities(
    outputs: Floats, awake: NDArray[np.bool_], members: tuple[str, ...], loss_name: str
) -> Floats:
    """T x K x C with C >= 2; a single number is the probability of class 1 of two."""
    with np.errstate(invalid="ignore"):
        outside = awake & ((outputs < 0) | (outputs > 1)).any(axis=2)
    if outside.any():
        row, k = np.argwhere(outside)[0]
        farthest = max(outputs[row, k], key=lambda p: abs(p - 0.5))
        raise SettingsError(
            f"P is {farthest:.9g} {_place(outside, members)}: {loss_name} needs probabilities; for values "
            "use square, absolute or pinball"
        )
    if outputs.shape[2] == 1:
        return np.concatenate([1 - outputs, outputs], axis=2)
    off = awake & (np.abs(outputs.sum(axis=2) - 1) > SUM_TOLERANCE)
    if off.any():
        row, k = np.argwhere(off)[0]
        raise SettingsError(
            f"the probabilities sum to {outputs[row, k].sum():.6g} {_place(off, members)}: {loss_name} needs "
            f"class probabilities that sum to 1 within {SUM_TOLERANCE}"
        )
    return outputs


def _classes(y: NDArray[Any], classes: int) -> NDArray[np.int64]:
    values = _numbers(y, "y")
    wrong = ~np.isin(values, np.arange(classes))
    if wrong.any():
        raise SettingsError(
            f"y is {values[wrong][0]:.9g} {_row(wrong)}: expected a class, one of 0 to {classes - 1}"
        )
    return values.astype(np.int64)


def _value_loss(loss_name: str, width: int, taus: Sequence[float] | None) -> Loss:
    if loss_name == "pinball":
        if taus is None:
            raise SettingsError("pinball needs the quantiles: an array taus in the file, or --taus .1,.5,.9")
        if len(taus) != width:
            raise SettingsError(f"{len(taus)} taus: expected {width}, one for each number of an output")
        if not all(0 < tau < 1 for tau in taus):
            raise SettingsError(
                f"taus are {', '.join(f'{tau:g}' for tau in taus)}: expected above 0, below 1"
            )
        return Pinball(tuple(taus))
    if width != 1:
        raise SettingsError(
            f"an output has {width} numbers and {loss_name} needs one; use log or brier for classes, pinball "
            "for quantiles"
        )
    return Square() if loss_name == "square" else Absolute()


def _segments(raw: Raw, column: str | None, rows: int) -> NDArray[np.int64] | None:
    if column is None:
        return None
    found = (raw.columns or {}).get(column)
    if found is None:
        there = ", ".join(raw.columns or {}) or "none"
        raise SettingsError(f"--segments {column}: no such column; further columns are: {there}")
    if found.shape != (rows,):
        raise SettingsError(f"{column} has the shape {found.shape}: expected ({rows},), one for each request")
    return np.unique(found, return_inverse=True)[1].reshape(rows).astype(np.int64)


def _place(wrong: NDArray[np.bool_], members: tuple[str, ...]) -> str:
    row, k = np.argwhere(wrong)[0]
    return f"in row {row} of {members[k]}"


def _row(wrong: NDArray[np.bool_]) -> str:
    return f"in row {np.flatnonzero(wrong)[0]}"
