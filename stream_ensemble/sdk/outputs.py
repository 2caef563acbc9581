"""Model outputs as callers have them (lists, NumPy, torch), as one block of floats, checked. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.errors import RecordError
from stream_ensemble.sdk.errors import InvalidInputError

_FLOAT32_BYTES = 4


class Rows(NamedTuple):
    """N outputs: V floats, or None for an abstention; ``problems`` says by row what is wrong with it."""

    outputs: list[list[float] | None]
    problems: dict[int, str]


class Block(NamedTuple):
    """N outputs as ``N x V`` numbers: float32 where the caller's are no finer, else float64.

    Attributes:
        abstained: N; whose row there is none, and zeros stand there.
        problems: what is wrong, by row.
    """

    numbers: NDArray[np.floating[Any]]
    abstained: NDArray[np.bool_]
    problems: dict[int, str]


def block_of(outputs: Any, count: int, domain: Domain) -> Block:
    """Reads ``outputs`` as ``count`` rows of outputs.

    Args:
        outputs: ``N x V`` array-like: lists, NumPy, torch on any device; in a list None is an abstention.
        count: N, how many rows there must be.
        domain: says how many numbers V an output has, and which.

    Returns:
        N rows. What is wrong with a row (NaN, another sum of probabilities, another length) stands in
        ``problems``.

    Raises:
        InvalidInputError: the whole is not N rows.
    """
    plain = _plain(outputs)
    if isinstance(plain, np.ndarray):
        _require_count(len(plain) if plain.ndim else 0, count)
        if plain.ndim == 2 and plain.shape[1] == len(domain.names):
            return Block(plain, np.zeros(count, np.bool_), _wrong_values(plain, range(count), domain))
    if not isinstance(plain, Sequence | np.ndarray) or isinstance(plain, str | bytes):
        raise InvalidInputError(f"outputs are a {type(outputs).__name__}; expected {count} rows")
    _require_count(len(plain), count)
    return _row_by_row(plain, domain)


def rows_of(outputs: Any, count: int, domain: Domain) -> Rows:
    """``block_of`` as lists."""
    block = block_of(outputs, count, domain)
    rows: list[list[float] | None] = block.numbers.tolist()
    for row in np.flatnonzero(block.abstained).tolist():
        rows[row] = None
    return Rows(rows, block.problems)


def _row_by_row(outputs: Sequence[Any] | NDArray[np.floating[Any]], domain: Domain) -> Block:
    V = len(domain.names)
    awake: list[int] = []
    problems: dict[int, str] = {}
    values: list[NDArray[np.floating[Any]]] = []
    for row, output in enumerate(outputs):
        if output is None:
            continue
        numbers = _plain(output)
        if not isinstance(numbers, np.ndarray) or numbers.ndim != 1:
            problems[row] = f"{output!r:.80} is not {V} numbers"
        elif len(numbers) != V:
            problems[row] = (
                f"{len(numbers)} numbers, expected {V}, one for each of {', '.join(domain.names[:10])}"
            )
        else:
            awake.append(row)
            values.append(numbers)
    some = np.stack(values) if awake else np.empty((0, V))
    problems |= _wrong_values(some, awake, domain)
    block = np.zeros((len(outputs), V), some.dtype)
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


def _wrong_values(block: NDArray[np.floating[Any]], rows: Sequence[int], domain: Domain) -> dict[int, str]:
    if not len(block):
        return {}
    numbers = block.astype(np.float64, copy=False)
    wrong = np.flatnonzero(~domain.are_outputs(numbers)).tolist()
    return {rows[k]: _problem(numbers[k].tolist(), domain) for k in wrong}


def _problem(output: list[float], domain: Domain) -> str:
    try:
        domain.check(output)
    except RecordError as error:
        return error.detail
    # On the very edge of what is allowed the order of adding decides, and the processor adds as the array is.
    return "output: its sum is too far from what is expected"
