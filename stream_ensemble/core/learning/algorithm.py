"""The interface of a learning algorithm: from contributions to weights, and from labels to contributions.

Everything a label teaches is computed from what stood in its fused record (outputs and credit), never from
today's state. So increments commute: order, delay, and the number of learners do not matter, and a
correction takes the old increment back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.contribution import Contribution, Vector


@dataclass(slots=True)
class Labelled:
    """R labelled requests that were fused with the same credit.

    Shapes: outputs R x K x C (zeros where asleep), awake R x K, labels R (class numbers, or values in
    regression), scale R: the label's weight, negative to take an earlier label back. ``clock`` is the n of
    the credit.

    Attributes:
        issued: R x C, what was answered by the credit, before it was calibrated; None: not said.
        trials: what members in shadow said of them; None where none did.
        warm: R x K, who had a warm share of the answer; None where nobody had.
    """

    outputs: NDArray[np.float64]
    awake: NDArray[np.bool_]
    labels: NDArray[np.int64] | NDArray[np.float64]
    scale: NDArray[np.float64]
    clock: float
    issued: NDArray[np.float64] | None = None
    trials: Trials | None = None
    warm: NDArray[np.bool_] | None = None


@dataclass(frozen=True, slots=True)
class Trials:
    """What members in shadow said of R requests. Shapes: outputs R x K x C, present R x K."""

    outputs: NDArray[np.float64]
    present: NDArray[np.bool_]


class Algorithm(Protocol):
    """Weights from contributions, contributions from labels.

    All methods are pure but :meth:`learn`, which adds in place.
    """

    name: str
    #: Does the order of labels leave the result unchanged (to rounding)? If not, one learner per segment is
    #: allowed only.
    order_free: bool
    #: Is the fused output the mean of the outputs with the weights of :meth:`pool`? If not, ask :meth:`fuse`.
    linear: bool
    members: tuple[str, ...]

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """The sum of the partitions' contributions, in their order."""
        ...

    def credit(self, whole: Contribution) -> Vector:
        """What a request is fused with: a vector that does not depend on who is awake.

        Its layout is the algorithm's.
        """
        ...

    def pool(self, credit: Vector, awake: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weights over the awake members: R x K, not negative, sum 1 in each row (0 where nobody is
        awake)."""
        ...

    def fuse(
        self, credit: Vector, outputs: NDArray[np.float64], awake: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The fused outputs of R requests. Shapes: outputs R x K x C (zeros where asleep), awake R x K,
        result R x C (zeros where nobody is awake).

        A row's result does not depend on the other rows, to the last bit.
        """
        ...

    def learn(self, part: Contribution, credit: Vector, labelled: Labelled) -> None:
        """Add what these labels teach to ``part`` (with negative scale: take it back).

        Does not touch ``part.n``.
        """
        ...
