"""Bank: ML-Poly at several half-lives and shapes of pooling, mixed by a second ML-Poly over these arms.

Nobody knows beforehand how fast the members change. So an arm per half-life (in labels) learns weights of its
own, one arm is uniform, and the top learns which arm to believe. For classification some arms pool
geometrically: ``q ~ prod_i p_i^(tau w_i)``, sharper than any mean with tau > 1. Arm j's members are charged
against arm j's own mixture, the arms against the issued one, all of them as they stood at prediction time.

Regret: that of the top against the best arm, plus that arm's (see ``ml_poly``).

References:
    Gaillard, Stoltz, van Erven (2014) for both levels; geometric pooling as in Genest, Zidek (1986),
    Combining probability distributions. Order-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning import geometric
from stream_ensemble.core.learning.additive import Additive, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import PER_ARM
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.ml_poly import ml_poly_weights
from stream_ensemble.core.learning.pooling import over_awake, patterns


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to weight the members.

    Attributes:
        name: stands in the names of its arrays.
        half_life: labels until an old one counts half; None: never.
        tau: exponent of a geometric pool; None: the arm is a weighted mean.
    """

    name: str
    half_life: float | None
    tau: float | None = None


LINEAR_ARMS = (Arm("50", 50.0), Arm("500", 500.0), Arm("5000", 5000.0), Arm("inf", None))
GEOMETRIC_ARMS = (
    Arm("geo1", None, 1.0),
    Arm("geo1.5", None, 1.5),
    Arm("geo2", None, 2.0),
    Arm("geo1-500", 500.0, 1.0),
)


class Bank(Additive):
    """Bank over K members.

    With A arms that learn (linear ones first) and J = A + 1 with the uniform one behind the linear ones,
    credit is A x K arm weights, then J top weights, all unnormalised.

    Args:
        loss: of the fused output.
        arms: linear arms before geometric ones, which need class probabilities and log loss; None: all of
            them under log loss, the linear ones under any other.
        top_half_life: labels until the top half forgets; None: 2000 under log loss, 700 under any other.
        floor: share of the weight that is spread evenly, at both levels.
    """

    name = "bank"

    def __init__(
        self,
        members: tuple[str, ...],
        loss: Loss | None = None,
        *,
        arms: Sequence[Arm] | None = None,
        top_half_life: float | None = None,
        floor: float = 0.01,
    ) -> None:
        self._loss = loss or LogLoss()
        probabilities = isinstance(self._loss, LogLoss)
        if arms is None:
            arms = LINEAR_ARMS + GEOMETRIC_ARMS if probabilities else LINEAR_ARMS
        if top_half_life is None:
            top_half_life = 2000.0 if probabilities else 700.0
        self.members = members
        self.arms = tuple(arms)
        self._floor = floor
        self._taus = np.array([arm.tau for arm in arms if arm.tau is not None])
        self._linear = len(self.arms) - len(self._taus)
        self.linear = len(self._taus) == 0
        top = [
            *(arm.name for arm in arms[: self._linear]),
            "uniform",
            *(arm.name for arm in arms[self._linear :]),
        ]
        self._top = tuple(PER_ARM + name for name in top)
        self.half_lives = {f"{arm.name}/{letter}": arm.half_life for arm in arms for letter in "RVB"}
        self.half_lives |= dict.fromkeys(self._top, top_half_life)

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        absent = np.zeros(len(self.members))
        weights = [
            ml_poly_weights(
                sums.get(f"{arm.name}/R", absent),
                sums.get(f"{arm.name}/V", absent),
                maxima.get(f"{arm.name}/B", absent),
            )
            for arm in self.arms
        ]
        of_arms = [sums.get(name, np.zeros(2)) for name in self._top]
        R = np.stack([array[..., 0] for array in of_arms], axis=-1)
        V = np.stack([array[..., 1] for array in of_arms], axis=-1)
        B = np.stack([maxima.get(name, np.zeros(1))[..., 0] for name in self._top], axis=-1)
        return np.concatenate([*weights, ml_poly_weights(R, V, B)], axis=-1)

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``: the share each member has in the arms, by the arms' top weights.

        With geometric arms the fused output is not quite the mean with these; see :meth:`fuse`.
        """
        weights, top = self._levels(credit, awake)
        result: Floats = (top[:, :, None] * weights).sum(axis=1)
        return result

    def fuse(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        weights, top = self._levels_by_pattern(credit, awake)
        means = self._linear + 1
        pooled = (top[:, :means, None] * weights[:, :means]).sum(axis=1)
        # Rows last: they are many, members and classes are few.
        columns = np.ascontiguousarray(outputs.transpose(1, 2, 0))
        fused = pooled[:, 0] * columns[0]
        for k in range(1, len(columns)):
            fused += pooled[:, k] * columns[k]
        if len(self._taus):
            shapes = geometric.pool(columns, weights[:, means:] * self._taus[:, None])
            for g in range(len(self._taus)):
                fused += top[:, means + g] * shapes[g]
        fused[:, ~awake.any(axis=1)] = 0.0
        return np.ascontiguousarray(fused.T)

    def increments(self, credit: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        outputs, awake, labels = labelled.outputs, labelled.awake, labelled.labels
        weights, top = self._levels_by_pattern(credit, awake)
        points = self._loss.points(outputs, labels)
        means = self._linear + 1
        r = regrets(self._loss, points, weights[:, : self._linear], awake, labels)
        of_arms = np.matmul(weights[:, :means], points)
        if len(self._taus):
            truth, more = geometric.regrets(outputs, weights[:, means:], self._taus, awake, labels)
            r = np.concatenate([r, more], axis=1)
            of_arms = np.concatenate([of_arms, truth[..., None]], axis=1)
        somebody = np.broadcast_to(awake.any(axis=1, keepdims=True), of_arms.shape[:2])
        r_top = regrets(self._loss, of_arms, top[:, None], somebody, labels)[:, 0]
        return self._named(r, r_top)

    def _named(self, r: Floats, r_top: Floats) -> Increments:
        """Regrets as increments. Shapes: r R x A x K, r_top R x J."""
        sums: dict[str, Floats] = {}
        maxima: dict[str, Floats] = {}
        squares, sizes = r * r, np.abs(r)
        for a, arm in enumerate(self.arms):
            sums[f"{arm.name}/R"] = r[:, a]
            sums[f"{arm.name}/V"] = squares[:, a]
            maxima[f"{arm.name}/B"] = sizes[:, a]
        both, top_sizes = np.stack([r_top, r_top * r_top], axis=-1), np.abs(r_top)
        for j, name in enumerate(self._top):
            sums[name] = both[:, j]
            maxima[name] = top_sizes[:, j : j + 1]
        return Increments(sums, maxima)

    def _levels_by_pattern(self, credit: Floats, awake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """As :meth:`_levels`, worked out once for each set of awake members; 1 row where all are the same."""
        if credit.ndim > 1:
            return self._levels(credit, awake)
        if (awake == awake[:1]).all():
            return self._levels(credit, awake[:1])
        first, which = patterns(awake)
        weights, top = self._levels(credit, awake[first])
        return weights[which], top[which]

    def _levels(self, credit: Floats, awake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Weights of the members in each arm, R x J x K, and of the arms, R x J, floors applied."""
        k, a = len(self.members), len(self.arms)
        given = credit[..., : a * k].reshape(*credit.shape[:-1], a, k)
        even = np.zeros((*credit.shape[:-1], 1, k))
        by_arm = np.concatenate([given[..., : self._linear, :], even, given[..., self._linear :, :]], axis=-2)
        weights = over_awake(by_arm, awake[:, None], self._floor)
        everyone = np.ones((len(awake), a + 1), np.bool_)
        return weights, over_awake(credit[..., a * k :], everyone, self._floor)
