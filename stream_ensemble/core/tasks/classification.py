"""One of C exclusive classes: outputs are distributions over them, a label is one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import LogLoss, Loss
from stream_ensemble.core.tasks.domain import Floats, Fuse, Meaning
from stream_ensemble.core.tasks.refusals import check_length, check_probabilities
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import AnyLabel, PartLabel

#: A sum so close to the tolerance depends on the order of summing.
_CLOSE = 1e-9


#: NumPy adds so many numbers and more in an order of its own.
_UNROLLED = 8


class Classes:
    """The ``Domain`` of a classification.

    Args:
        names: C class names, in the order of an output's probabilities.
        tolerance: how far an output may be from summing to 1.
    """

    parts: tuple[str, ...] = ()
    loss: Loss = LogLoss()
    #: With the largest tolerance there is.
    bounds = (0.0, 1.5)

    def __init__(self, names: Sequence[str], tolerance: float = 1e-3) -> None:
        self.names = tuple(names)
        self.highest = 1.0 + tolerance
        self._tolerance = tolerance
        self._by_name = {name: Meaning(name, number) for number, name in enumerate(self.names)}
        self._meanings: dict[object, Meaning] = dict(enumerate(self._by_name.values()))
        self._meanings.update(self._by_name.items())

    def are_outputs(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """See ``Domain``."""
        with np.errstate(all="ignore"):
            right: NDArray[np.bool_] = np.abs(outputs.sum(axis=1) - 1.0) <= self._tolerance
        # Seldom false, and a minimum over everything costs a tenth of one by row.
        if not outputs.min(initial=0.0) >= 0.0:
            right &= (outputs >= 0.0).all(axis=1)
        return right

    def check(self, output: Sequence[float]) -> None:
        """See ``Domain``."""
        check_length(output, len(self.names), "one per class")
        check_probabilities(output, float("inf"))
        total = _sum(output)
        if not abs(total - 1.0) <= self._tolerance:
            raise RecordError(
                "not-a-distribution", f"output: sums to {total:.6g}, expected 1 within {self._tolerance:g}"
            )

    def surely(self, output: Sequence[float]) -> bool:
        """See ``Domain``."""
        if len(output) != len(self.names) or not min(output) >= 0.0:
            return False
        return abs(sum(output) - 1.0) <= self._tolerance - _CLOSE

    def meaning(self, label: AnyLabel) -> Meaning:
        """See ``Domain``."""
        known = self._meanings.get(label)
        if known is not None:
            return known
        if isinstance(label, PartLabel):
            raise RecordError("unknown-part", "part: labels of this task are about the whole request")
        if isinstance(label, int):
            detail = f"label is {label}, the task has classes 0..{len(self.names) - 1}"
            raise RecordError("label-out-of-range", detail)
        raise RecordError("unknown-class", f"label is {label!r}, which is not a class of the task")

    def kept(self, name: str, part: str | None) -> Meaning | None:
        """See ``Domain``."""
        return self._by_name.get(name) if part is None else None

    def asked(self, output: Sequence[float], part: int) -> list[float]:
        """See ``Domain``."""
        return list(output)

    def fused(self, fuse: Fuse, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Domain``."""
        return fuse(outputs, awake)


def _sum(output: Sequence[float]) -> float:
    """As NumPy adds a row of many."""
    if len(output) >= _UNROLLED:
        with np.errstate(over="ignore"):
            return float(np.sum(np.array(output)))
    # So few are added one after the other by both, and NumPy's call costs more than all the rest.
    total = 0.0
    for number in output:
        total += number
    return total
