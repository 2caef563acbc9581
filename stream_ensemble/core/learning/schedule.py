"""When labels come: for each of T requests, the request before which its label is learned.

Randomness is passed in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The arrival of a label that never comes.
NEVER = np.iinfo(np.int64).max


def delayed(rows: int, delay: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Each label comes ``delay`` requests late (one number, or T); 0: before the next request."""
    return np.arange(rows, dtype=np.int64) + 1 + delay


def in_bursts(rows: int, size: int) -> NDArray[np.int64]:
    """Labels come together, all of a block of ``size`` requests at its end."""
    return (np.arange(rows, dtype=np.int64) // size + 1) * size


def some_never(arrival: NDArray[np.int64], comes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The same where a label comes, never elsewhere. Shapes: T each."""
    return np.where(comes, arrival, NEVER)
