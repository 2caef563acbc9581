"""What a kind of task says of its outputs and its labels. One file beside this for each kind.

An output is V numbers. Where the task has no parts a label is about the whole output: one of V exclusive
classes. Where it has parts, each number is the answer to a question of its own (is this class true? what will
it be at this horizon?), and each label is about one of them: such a request is V requests that are asked,
answered and delivered together, and labelled and learned one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.losses import Loss
from stream_ensemble.messages import AnyLabel

Floats = NDArray[np.float64]
#: Fuses R requests. Shapes: outputs R x K x C (zeros where asleep), awake R x K, result R x C.
Fuse = Callable[[Floats, NDArray[np.bool_]], Floats]


class Meaning(NamedTuple):
    """What a label says: ``name`` is how it is kept, ``number`` what the loss takes, of number ``part`` of an
    output (0 where the label is about the whole).
    """

    name: str
    number: int | float
    part: int = 0


class Domain(Protocol):
    """The outputs and labels of one task.

    Attributes:
        names: of the V numbers of an output, in their order.
        parts: what labels are about, ``names``; empty where they are about the whole.
        loss: of a fused output, or of a part of it.
        highest: the largest number there is in an output.
        bounds: within which all numbers of a fused record are, whatever the settings were when it was made.
    """

    names: tuple[str, ...]
    parts: tuple[str, ...]
    loss: Loss
    highest: float
    bounds: tuple[float, float]

    def are_outputs(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Which of N are outputs of this task; one with NaN is not. Shapes: N x V, result N."""
        ...

    def check(self, output: Sequence[float]) -> None:
        """The same for one of any length.

        Raises:
            RecordError: what is wrong with it.
        """
        ...

    def surely(self, output: Sequence[float]) -> bool:
        """Is one an output beyond doubt? Where rounding may decide, ``are_outputs`` does."""
        ...

    def meaning(self, label: AnyLabel) -> Meaning:
        """What a label says.

        Raises:
            RecordError: nothing in this task, and why.
        """
        ...

    def kept(self, name: str, part: str | None) -> Meaning | None:
        """What a label says that is kept by this name, of this part; None: nothing in today's task."""
        ...

    def asked(self, output: Sequence[float], part: int) -> list[float]:
        """What one output says of a part, as the loss takes it: all of it where the task has no parts."""
        ...

    def fused(self, fuse: Fuse, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """R requests fused by ``fuse``, which sees each part by itself.

        Shapes: outputs R x K x V (zeros where asleep), awake R x K, result R x V.
        """
        ...


def part_by_part(fuse: Fuse, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
    """Fuse V questions a request as R V requests.

    Shapes: outputs R x K x V x D, awake R x K, result R x V x D.
    """
    requests, members, parts, width = outputs.shape
    asked = outputs.transpose(0, 2, 1, 3).reshape(requests * parts, members, width)
    return fuse(np.ascontiguousarray(asked), np.repeat(awake, parts, axis=0)).reshape(requests, parts, width)
