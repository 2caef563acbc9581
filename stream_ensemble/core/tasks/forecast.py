"""One number, or one for each of several horizons: outputs are H numbers, a label is what one turned out to
be. All horizons share the members' weights, and one loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import Absolute, Loss, Square
from stream_ensemble.core.tasks.domain import Floats, Fuse, Meaning, part_by_part
from stream_ensemble.core.tasks.part_labels import part_label, place_of
from stream_ensemble.core.tasks.refusals import check_length
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import AnyLabel

#: Squares of such numbers, and sums of many, are still far from where doubles end.
LARGEST = 1e100


class Horizons:
    """The ``Domain`` of a forecast.

    Args:
        names: H horizons, in the order of an output's numbers.
        loss: ``absolute``, by which the median is right, or ``square``, by which the mean is.
    """

    highest = LARGEST
    bounds = (-LARGEST, LARGEST)

    def __init__(self, names: Sequence[str], loss: Literal["absolute", "square"] = "absolute") -> None:
        self.names = self.parts = tuple(names)
        self.loss: Loss = Square() if loss == "square" else Absolute()
        self._places = {name: place for place, name in enumerate(self.names)}

    def are_outputs(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """See ``Domain``."""
        right: NDArray[np.bool_] = (np.abs(outputs) <= LARGEST).all(axis=1)
        return right

    def check(self, output: Sequence[float]) -> None:
        """See ``Domain``."""
        check_length(output, len(self.names), "one per horizon")
        for i, x in enumerate(output):
            if not abs(x) <= LARGEST:
                raise RecordError("number-out-of-range", f"output[{i}]: {x!r} is not within ±{LARGEST:g}")

    def surely(self, output: Sequence[float]) -> bool:
        """See ``Domain``."""
        return len(output) == len(self.names) and all(abs(x) <= LARGEST for x in output)

    def meaning(self, label: AnyLabel) -> Meaning:
        """See ``Domain``. True and false are no numbers here."""
        said = part_label(label)
        place = place_of(said.part, self._places)
        if isinstance(said.value, bool) or not abs(said.value) <= LARGEST:
            raise RecordError(
                "label-out-of-range", f"label is {said.value!r}, expected a number within ±{LARGEST:g}"
            )
        number = said.value + 0.0  # -0.0 becomes 0.0: they are the same label
        return Meaning(repr(number), number, place)

    def kept(self, name: str, part: str | None) -> Meaning | None:
        """See ``Domain``."""
        place = self._places.get(part or "")
        try:
            number = float(name)
        except ValueError:
            return None
        return None if place is None or not math.isfinite(number) else Meaning(name, number, place)

    def asked(self, output: Sequence[float], part: int) -> list[float]:
        """See ``Domain``: the number of that horizon."""
        return [output[part]]

    def fused(self, fuse: Fuse, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Domain``."""
        return part_by_part(fuse, outputs[..., None], awake)[..., 0]
