"""Model outputs as callers have them (lists, NumPy, torch), as one block of floats, checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import config
from stream_ensemble.sdk.errors import InvalidInputError

_FLOAT32_BYTES = 4


class Rows(NamedTuple):
    """N outputs: C floats, or None for an abstention; ``problems`` says by row what is wrong with it."""

    outputs: list[list[float] | None]
    problems: dict[int, str]


class Block(NamedTuple):
    """N outputs as ``N x C`` numbers: float32 where the caller's are no finer, else float64.

    Attributes:
        abstained: N; whose row there is none, and zeros stand there.
        problems: what is wrong, by row.
    """

    numbers: NDArray[np.floating[Any]]
    abstained: NDArray[np.bool_]
    problems: dict[int, str]


def block_of(outputs: Any, count: int, task: config.Classification) -> Block:
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
            return Block(plain, np.zeros(count, np.bool_), _wrong_values(plain, range(count), task))
    if not isinstance(plain, Sequence | np.ndarray) or isinstance(plain, str | bytes):
        raise InvalidInputError(f"outputs are a {type(outputs).__name__}; expected {count} rows")
    _require_count(len(plain), count)
    return _row_by_row(plain, task)


def rows_of(outputs: Any, count: int, task: config.Classification) -> Rows:
    """``block_of`` as lists."""
    block = block_of(outputs, count, task)
    rows: list[list[float] | None] = block.numbers.tolist()
    for row in np.flatnonzero(block.abstained).tolist():
        rows[row] = None
    return Rows(rows, block.problems)


def _row_by_row(outputs: Sequence[Any] | NDArray[np.floating[Any]], task: config.Classification) -> Block:
    C = len(task.classes)
    awake: list[int] = []
    problems: dict[int, str] = {}
    values: list[NDArray[np.floating[Any]]] = []
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
    some = np.stack(values) if awake else np.empty((0, C))
    problems |= _wrong_values(some, awake, task)
    block = np.zeros((len(outputs), C), some.dtype)
    block[awake] = some
    return Block(block, np.array([output is None for output in outputs], np.bool_), problems)


def _plain(values: Any) -> Any:
    """``values`` as an array of float32 or float64 where they are one, else unchanged."""
    if hasattr(values, "detach"):  # torch, without importing it: on a GPU or with a gradient NumPy refuses
        values = values.detach().cpu()
        coarse = values.is_floating_point() and values.element_size() <= _FLOAT32_BYTES
        values = (values.float() if coarse else values.double()).numpy()
    if isinstance(values, list | tuple) and any(
        value is None or hasattr(value, "detach") for value in values
    ):
        return values
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        return values
    if array.dtype.kind not in "fiub":
        return values
    coarse = array.dtype.kind == "f" and array.dtype.itemsize <= _FLOAT32_BYTES
    return array.astype(np.float32 if coarse else np.float64, copy=False)


def _require_count(rows: int, count: int) -> None:
    if rows != count:
        raise InvalidInputError(f"{rows} outputs for {count} requests")


def _wrong_values(
    block: NDArray[np.floating[Any]], rows: Sequence[int], task: config.Classification
) -> dict[int, str]:
    if not len(block):
        return {}
    with np.errstate(invalid="ignore", over="ignore"):
        sums = block.sum(axis=1, dtype=np.float64)
        right = (block.min(axis=1) >= 0) & (np.abs(sums - 1) <= task.sum_tolerance)
    wrong = np.flatnonzero(~right).tolist()
    return {rows[k]: _problem(block[k].tolist(), sums[k], task.sum_tolerance) for k in wrong}


def _problem(output: list[float], total: float, tolerance: float) -> str:
    for index, value in enumerate(output):
        if not np.isfinite(value) or value < 0:
            return f"probability [{index}] is {value}, expected a finite number of at least 0"
    return f"probabilities sum to {total:.6g}, expected 1 within {tolerance}"
