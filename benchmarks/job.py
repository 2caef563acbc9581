"""The requests of a benchmark and what the members answer, the same in every run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.task import CLASSES, MEMBERS

ID_BYTES = 32
#: Leading hex digits of an id, which say the request's number.
_NUMBER_DIGITS = 8
#: Probabilities have four decimals.
SCALE = 10_000
#: How far the members' records of one request are apart in the log, in requests.
_DISPLACEMENT = 64
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_DIGIT = np.full(256, -1, np.int64)
_DIGIT[_HEX] = np.arange(16)


@dataclass(frozen=True, slots=True)
class Job:
    """R requests.

    Shapes: ids ``R x 32`` (bytes of hex digits, distinct); parts ``R x K x C`` of ``SCALE``, they sum to it.
    """

    ids: NDArray[np.uint8]
    parts: NDArray[np.uint16]

    def __len__(self) -> int:
        return len(self.ids)

    def p(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probabilities of some requests, R x K x C."""
        return self.parts[rows] / SCALE


def make_job(count: int, seed: int = 7) -> Job:
    """``count`` requests; a longer job does not begin like a shorter one."""
    rng = np.random.default_rng(seed)
    digits = np.empty((count, ID_BYTES), np.uint8)
    shifts = np.arange(_NUMBER_DIGITS - 1, -1, -1) * 4
    digits[:, :_NUMBER_DIGITS] = np.arange(count)[:, None] >> shifts & 15
    digits[:, _NUMBER_DIGITS:] = rng.integers(0, 16, (count, ID_BYTES - _NUMBER_DIGITS), np.uint8)
    parts = np.empty((count, len(MEMBERS), len(CLASSES)), np.uint16)
    gammas = [rng.standard_gamma(shape, (count, len(MEMBERS)), np.float32) for shape in (2.0, 1.2, 0.8)]
    total = sum(gammas)
    for c in (1, 2):
        parts[:, :, c] = gammas[c] / total * (SCALE - 1)
    parts[:, :, 0] = SCALE - parts[:, :, 1] - parts[:, :, 2]
    return Job(_HEX[digits], parts)


def orders(count: int) -> list[NDArray[np.int64]]:
    """In which order each member answers: displaced against the others by up to 64 requests."""
    rng = np.random.default_rng(3)
    return [np.argsort(np.arange(count) + rng.uniform(0, _DISPLACEMENT, count)) for _ in MEMBERS]


def numbers_of(ids: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Which request each id names; negative for what is no id of a job. Shapes: ``N x 32``, N."""
    digits = _DIGIT[ids[:, :_NUMBER_DIGITS]]
    numbers = digits @ (16 ** np.arange(_NUMBER_DIGITS - 1, -1, -1))
    numbers[(digits < 0).any(axis=1)] = -1
    return numbers
