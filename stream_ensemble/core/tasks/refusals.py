"""What is wrong with one output, in words."""

from __future__ import annotations

from collections.abc import Sequence

from stream_ensemble.errors import RecordError


def check_length(output: Sequence[float], values: int, which: str) -> None:
    """Has it so many numbers?

    Raises:
        RecordError: it has not.
    """
    if len(output) != values:
        raise RecordError("wrong-length", f"output: {len(output)} numbers, expected {values}, {which}")


def check_probabilities(output: Sequence[float], highest: float) -> None:
    """Are all of them from 0 on, up to ``highest`` and finite?

    Raises:
        RecordError: one is not.
    """
    for i, p in enumerate(output):
        if not (0.0 <= p <= highest and p < float("inf")):
            raise RecordError("not-a-probability", f"output[{i}]: {p!r} is not between 0 and 1")
