"""Model outputs as callers have them (lists, NumPy, torch), brought to rows of floats and checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.sdk.errors import InvalidInputError


class Rows(NamedTuple):
    """N outputs: C floats, or None for an abstention; ``problems`` says by row what is wrong with it."""

    outputs: list[list[float] | None]
    problems: dict[int, str]


def rows_of(outputs: Any, count: int, task: config.Classification) -> Rows:
    """Reads ``outputs`` as ``count`` rows of class probabilities.

    Args:
        outputs: ``N x C`` array-like: lists, NumPy, torch on any device; in a list None is an abstention.
        count: N, how many rows there must be.
        task: whose classes give C and whose tolerance the sums are checked with.

    Returns:
        N rows. Wrong values of a row (NaN, negative, another sum, another length) stand in ``problems``.

    Raises:
        InvalidInputError: the whole is not N rows.
    """
    plain = _plain(outputs)
    if isinstance(plain, np.ndarray):
        _require_count(len(plain) if plain.ndim else 0, count)
        if plain.ndim == 2 and plain.shape[1] == len(task.classes):
            return Rows(plain.tolist(), _wrong_values(plain, range(count), task))
    if not isinstance(plain, Sequence | np.ndarray) or isinstance(plain, str | bytes):
        raise InvalidInputError(f"outputs are a {type(outputs).__name__}; expected {count} rows")
    _require_count(len(plain), count)
    return _row_by_row(plain, task)


def _row_by_row(outputs: Sequence[Any] | NDArray[np.float64], task: config.Classification) -> Rows:
    C = len(task.classes)
    awake: list[int] = []
    problems: dict[int, str] = {}
    values: list[NDArray[np.float64]] = []
    for row, output in enumerate(outputs):
        if output is None:
            continue
        numbers = _plain(output)
        if not isinstance(numbers, np.ndarray) or numbers.ndim != 1:
            problems[row] = f"{output!r:.80} is not {C} numbers"
        elif len(numbers) != C:
            problems[row] = f"{len(numbers)} numbers, expected {C}, one for each class"
        else:
            awake.append(row)
            values.append(numbers)
    rows: list[list[float] | None] = [None] * len(outputs)
    if awake:
        block = np.stack(values)
        problems |= _wrong_values(block, awake, task)
        for row, numbers_of_row in zip(awake, block.tolist(), strict=True):
            rows[row] = numbers_of_row
    return Rows(rows, problems)


def _plain(values: Any) -> Any:
    """``values`` as a float64 array where they are one, else unchanged."""
    if hasattr(values, "detach"):  # torch, without importing it: on a GPU or with a gradient NumPy refuses
        values = values.detach().cpu().double().numpy()
    if isinstance(values, list | tuple) and any(
        value is None or hasattr(value, "detach") for value in values
    ):
        return values
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        return values
    return array.astype(np.float64) if array.dtype.kind in "fiub" else values


def _require_count(rows: int, count: int) -> None:
    if rows != count:
        raise InvalidInputError(f"{rows} outputs for {count} requests")


def _wrong_values(
    block: NDArray[np.float64], rows: Sequence[int], task: config.Classification
) -> dict[int, str]:
    with np.errstate(invalid="ignore", over="ignore"):
        sums = block.sum(axis=1)
        right = (block.min(axis=1) >= 0) & (np.abs(sums - 1) <= task.sum_tolerance)
    wrong = np.flatnonzero(~right).tolist()
    return {rows[k]: _problem(block[k].tolist(), sums[k], task.sum_tolerance) for k in wrong}


def _problem(output: list[float], total: float, tolerance: float) -> str:
    for index, value in enumerate(output):
        if not np.isfinite(value) or value < 0:
            return f"probability [{index}] is {value}, expected a finite number of at least 0"
    return f"probabilities sum to {total:.6g}, expected 1 within {tolerance}"
