"""C classes, each true or not whatever the others are: outputs are C probabilities, a label is about one of
them.

Each class is a question with two answers, yes and no, and scored as such by log loss. All classes share the
members' weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import LogLoss, Loss
from stream_ensemble.core.tasks.domain import Floats, Fuse, Meaning, part_by_part
from stream_ensemble.core.tasks.part_labels import part_label, place_of
from stream_ensemble.core.tasks.refusals import check_length, check_probabilities
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import AnyLabel

_NO, _YES = "false", "true"
_NUMBERS = {_NO: 0, _YES: 1}


class ManyLabels:
    """The ``Domain`` of a multi-label classification.

    Args:
        names: C class names, in the order of an output's probabilities.
    """

    loss: Loss = LogLoss()
    highest = 1.0
    bounds = (0.0, 1.0)

    def __init__(self, names: Sequence[str]) -> None:
        self.names = self.parts = tuple(names)
        self._places = {name: place for place, name in enumerate(self.names)}

    def are_outputs(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """See ``Domain``."""
        within: NDArray[np.bool_] = (outputs >= 0.0) & (outputs <= 1.0)
        right: NDArray[np.bool_] = np.logical_and.reduce(within, axis=1)
        return right

    def check(self, output: Sequence[float]) -> None:
        """See ``Domain``."""
        check_length(output, len(self.names), "one per class")
        check_probabilities(output, 1.0)

    def surely(self, output: Sequence[float]) -> bool:
        """See ``Domain``."""
        return len(output) == len(self.names) and all(0.0 <= p <= 1.0 for p in output)

    def meaning(self, label: AnyLabel) -> Meaning:
        """See ``Domain``. Yes is ``true`` or 1, no is ``false`` or 0."""
        said = part_label(label)
        place = place_of(said.part, self._places)
        if said.value not in (0, 1):
            raise RecordError("label-out-of-range", f"label is {said.value!r}, expected true or false")
        return Meaning(_YES if said.value else _NO, int(said.value), place)

    def kept(self, name: str, part: str | None) -> Meaning | None:
        """See ``Domain``."""
        place, number = self._places.get(part or ""), _NUMBERS.get(name)
        return None if place is None or number is None else Meaning(name, number, place)

    def asked(self, output: Sequence[float], part: int) -> list[float]:
        """See ``Domain``: the probabilities of no and yes."""
        yes = output[part]
        return [1.0 - yes, yes]

    def fused(self, fuse: Fuse, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Domain``."""
        no_and_yes = np.stack([1.0 - outputs, outputs], axis=-1) * awake[:, :, None, None]
        return part_by_part(fuse, no_and_yes, awake)[..., 1]
