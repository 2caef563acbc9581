"""The weights of one segment: its own, and how far they are believed beside the global ones.

A segment learns with the same algorithm as the whole, from its own requests, and one more ML-Poly learns
whether to believe the global mixture or the segment's: its two arms are these two mixtures. So a segment that
is like all others loses little. Until a segment has learned a label it is the whole: what was fused before
that teaches its own weights, but says nothing about a mixture that was not there.

Order-free where the algorithm is: a label is charged against both credits its request was fused with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import Additive, AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import PER_ARM, Contribution, Vector
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.ml_poly import ml_poly_weights
from stream_ensemble.core.learning.pooling import over_awake

ARMS: tuple[str, ...] = ("everywhere", "segment")


class Belief(AdditiveMean):
    """ML-Poly over the global mixture and the segment's; credit is two weights, unnormalised.

    Where neither has positive regret all weight is on the global one: any weights fulfil ML-Poly's condition
    there, and these leave a segment of which nothing is known as it was.

    Sums: R of both arms, then V of both; maxima: B of both.

    Args:
        algorithm: whose mixtures they are. It stands in the name of the arrays: what was believed of one
            algorithm says nothing of another that the settings name now.
        loss: of the fused output.
        floor: share of the weight spread evenly.
    """

    name = "belief"
    members = ARMS

    def __init__(self, algorithm: str, loss: Loss | None = None, floor: float = 0.01) -> None:
        self.half_lives = {}
        self._array = f"{PER_ARM}segment/{algorithm}"
        self.loss = loss or LogLoss()
        self._floor = floor

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``; zeros when no arm has positive regret."""
        held = sums.get(self._array, np.zeros(4))
        return ml_poly_weights(held[..., :2], held[..., 2:], maxima.get(self._array, np.zeros(2)))

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``. Both arms are awake, or neither."""
        learned = over_awake(credit, awake, self._floor)
        nothing = ~(credit > 0).any(axis=-1, keepdims=True)
        return np.where(nothing, awake * np.array([1.0, 0.0]), learned)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        points = self.loss.points(labelled.outputs, labelled.labels)
        r = regrets(self.loss, points, mixing[:, None], labelled.awake, labelled.labels)[:, 0]
        return Increments({self._array: np.concatenate([r, r * r], axis=1)}, {self._array: np.abs(r)})


class SegmentMixture:
    """Both mixtures of one segment, and the belief between them.

    The segment's contribution holds the arrays of ``algorithm`` and those of the belief. Its credit is that
    of ``algorithm``, and behind it, once a label has been learned, the belief's two numbers.

    Args:
        algorithm: learns the segment's own weights, and has learned the global ones.

    Attributes:
        width: how many numbers a credit of ``algorithm`` is.
    """

    def __init__(self, algorithm: Additive[Any]) -> None:
        self.name = algorithm.name
        self.members = algorithm.members
        self._algorithm = algorithm
        self._belief = Belief(algorithm.name, algorithm.loss)
        self.width = len(algorithm.credit(algorithm.merge([])))

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """See ``Algorithm``."""
        return self._algorithm.merge(parts)

    def credit(self, whole: Contribution) -> Vector:
        """The segment's credit, a vector that does not depend on who is awake."""
        own = self._algorithm.credit(whole)
        return np.concatenate([own, self._belief.credit(whole)]) if whole.n else own

    def fits(self, own: Vector) -> bool:
        """Is this as long as a credit of a segment?"""
        return len(own) in (self.width, self.width + len(ARMS))

    def pool(self, everywhere: Vector, own: Vector, awake: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Weights over the awake members, as ``Algorithm.pool``.

        Args:
            everywhere: the global credit.
            own: the segment's.
        """
        weights = self._algorithm.pool(everywhere, awake)
        believed = self._believed(own)
        if believed is None:
            return weights
        local = self._algorithm.pool(own[: self.width], awake)
        mixed: NDArray[np.float64] = believed[0] * weights + believed[1] * local
        return mixed

    def fuse(
        self, everywhere: Vector, own: Vector, outputs: NDArray[np.float64], awake: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The fused outputs of R requests, as ``Algorithm.fuse``."""
        fused = self._algorithm.fuse(everywhere, outputs, awake)
        believed = self._believed(own)
        if believed is None:
            return fused
        local = self._algorithm.fuse(own[: self.width], outputs, awake)
        mixed: NDArray[np.float64] = believed[0] * fused + believed[1] * local
        return mixed

    def issued(
        self, everywhere: Vector, own: Floats, outputs: NDArray[np.float64], awake: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """As :meth:`fuse`, for R requests of different segments. Shape: own R x V, of one length."""
        fused = self._algorithm.fuse(everywhere, outputs, awake)
        credit, believed = own[:, : self.width], own[:, self.width :]
        if not believed.shape[1]:
            return fused
        local = self._algorithm.fuse(credit, outputs, awake)
        weights = self._belief.pool(believed, np.ones((len(own), len(ARMS)), np.bool_))
        mixed: NDArray[np.float64] = weights[:, :1] * fused + weights[:, 1:] * local
        return mixed

    def learn(self, part: Contribution, everywhere: Vector, own: Vector, labelled: Labelled) -> None:
        """Add what these labels teach the segment to ``part``, as ``Algorithm.learn``.

        ``labelled.clock`` is the n of the segment's credit.
        """
        taught = self.increments(everywhere, own, labelled)
        self._algorithm.add(part, taught, labelled.scale, labelled.clock)

    def increments(self, everywhere: Floats, own: Floats, labelled: Labelled) -> Increments:
        """What each label teaches its segment, to be added by ``algorithm``: the belief forgets nothing.

        Credit is one for all R rows, or one a row.
        """
        credit, believed = own[..., : self.width], own[..., self.width :]
        algorithm, outputs, awake = self._algorithm, labelled.outputs, labelled.awake
        mixing = algorithm.mixing(credit, outputs, awake)
        taught = algorithm.taught(mixing, labelled)
        if not believed.shape[-1]:
            return taught
        local = algorithm.mix(mixing, outputs, awake)
        arms = Labelled(
            outputs=np.stack([algorithm.fuse(everywhere, outputs, awake), local], axis=1),
            awake=np.repeat(awake.any(axis=1, keepdims=True), len(ARMS), axis=1),
            labels=labelled.labels,
            scale=labelled.scale,
            clock=labelled.clock,
        )
        more = self._belief.increments(believed, arms)
        return Increments({**taught.sums, **more.sums}, {**taught.maxima, **more.maxima})

    def _believed(self, own: Vector) -> Vector | None:
        """Weights of the two mixtures; None: the global one alone."""
        credit = own[self.width :]
        if not (credit > 0).any():
            return None
        weights: Vector = self._belief.pool(credit, np.ones((1, len(ARMS)), np.bool_))[0]
        return weights
