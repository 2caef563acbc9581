"""Is an output a distribution over the task's classes? Alike for single and for columnar predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.errors import RecordError

#: NumPy adds so many numbers and more in an order of its own.
_UNROLLED = 8


def are_distributions(outputs: NDArray[np.floating[Any]], tolerance: float) -> NDArray[np.bool_]:
    """Which of N outputs have no negative number and sum to 1 within ``tolerance``; NaN does not.

    Shapes: outputs N x V, result N.
    """
    with np.errstate(all="ignore"):
        right: NDArray[np.bool_] = np.abs(outputs.sum(axis=1) - 1.0) <= tolerance
    # Seldom false, and a minimum over everything costs a tenth of one by row.
    if not outputs.min(initial=0.0) >= 0.0:
        right &= (outputs >= 0.0).all(axis=1)
    return right


def check_distribution(output: list[float], values: int, tolerance: float) -> None:
    """The same for one output of any length.

    Raises:
        RecordError: what is wrong with it.
    """
    if len(output) != values:
        raise RecordError("wrong-length", f"output: {len(output)} numbers, expected {values}, one per class")
    for i, p in enumerate(output):
        if not 0.0 <= p < float("inf"):
            raise RecordError("not-a-probability", f"output[{i}]: {p!r} is not between 0 and 1")
    # So few are added in the same order by both, and NumPy's call costs more than all the rest.
    total = float(np.sum(np.array(output))) if len(output) >= _UNROLLED else sum(output)
    if not abs(total - 1.0) <= tolerance:
        raise RecordError(
            "not-a-distribution", f"output: sums to {total:.6g}, expected 1 within {tolerance:g}"
        )
