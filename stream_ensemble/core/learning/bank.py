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
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning import geometric
from stream_ensemble.core.learning.additive import Additive, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import PER_ARM
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.ml_poly import ml_poly_weights
from stream_ensemble.core.learning.pooling import mean_of, over_awake, patterns


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


class Mixed(NamedTuple):
    """How R requests are mixed: weights of the members in each arm, R x J x K, and of the arms, R x J, floors
    applied (1 row where all are alike); with geometric arms the logarithms of the outputs, K x C x R, and the
    arms' pools of them, G x C x R."""

    weights: Floats
    top: Floats
    logs: Floats | None = None
    pools: Floats | None = None


class Bank(Additive[Mixed]):
    """Bank over K members.

    With A arms that learn (linear ones first) and J = A + 1 with the uniform one behind the linear ones,
    credit is A x K arm weights, then J top weights, all unnormalised.

    Attributes:
        arm_names: the J arms, in the order of the top weights.

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
        self.loss = loss or LogLoss()
        probabilities = isinstance(self.loss, LogLoss)
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
        names = [
            *(arm.name for arm in arms[: self._linear]),
            "uniform",
            *(arm.name for arm in arms[self._linear :]),
        ]
        self.arm_names = tuple(names)
        self._top = tuple(PER_ARM + name for name in names)
        self.half_lives = {f"{arm.name}/{letter}": arm.half_life for arm in arms for letter in "RVB"}
        self.half_lives |= dict.fromkeys(self._top, top_half_life)
        # As columns of a matrix: R and V of each arm, both of the top, B of each arm, B of the top.
        k, top_arms = len(members), [(name, 2) for name in self._top]
        self._sums = _side_by_side([*((f"{arm.name}/{x}", k) for arm in arms for x in "RV"), *top_arms], 0)
        top = 2 * len(self.arms) * k
        sizes = top + 2 * len(self._top)
        self._ends = (top, sizes, sizes + len(self.arms) * k)
        self._maxima = _side_by_side(
            [*((f"{arm.name}/B", k) for arm in arms), *((name, 1) for name in self._top)], sizes
        )

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        absent = np.zeros(len(self.members))
        R, V = (np.stack([sums.get(f"{a.name}/{x}", absent) for a in self.arms], axis=-2) for x in "RV")
        B = np.stack([maxima.get(f"{a.name}/B", absent) for a in self.arms], axis=-2)
        of_arms = np.stack([sums.get(name, np.zeros(2)) for name in self._top], axis=-2)
        sizes = np.concatenate([maxima.get(name, np.zeros(1)) for name in self._top], axis=-1)
        return _credit(ml_poly_weights(R, V, B), ml_poly_weights(of_arms[..., 0], of_arms[..., 1], sizes))

    def credits_of(self, matrix: Floats, sums: Mapping[str, slice], maxima: Mapping[str, slice]) -> Floats:
        """See ``Additive``; without taking the matrix apart by name."""
        if not sums:
            return self.credits({}, {})
        states, (a, k) = len(matrix), (len(self.arms), len(self.members))
        top, sizes, top_sizes = self._ends
        by_arm = matrix[:, :top].reshape(states, a, 2, k)
        weights = ml_poly_weights(
            by_arm[:, :, 0], by_arm[:, :, 1], matrix[:, sizes:top_sizes].reshape(states, a, k)
        )
        return _credit(
            weights,
            ml_poly_weights(matrix[:, top:sizes:2], matrix[:, top + 1 : sizes : 2], matrix[:, top_sizes:]),
        )

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``: the share each member has in the arms, by the arms' top weights.

        With geometric arms the fused output is not quite the mean with these; see :meth:`mix`.
        """
        return self._shares(*self.levels(credit, awake))

    def levels(self, credit: Floats, awake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Weights of the members in each arm, R x J x K, and of the arms, R x J, floors applied."""
        k, a = len(self.members), len(self.arms)
        given = credit[..., : a * k].reshape(*credit.shape[:-1], a, k)
        even = np.zeros((*credit.shape[:-1], 1, k))
        by_arm = np.concatenate([given[..., : self._linear, :], even, given[..., self._linear :, :]], axis=-2)
        weights = over_awake(by_arm, awake[:, None], self._floor)
        everyone = np.ones((len(awake), a + 1), np.bool_)
        return weights, over_awake(credit[..., a * k :], everyone, self._floor)

    def mixing(self, credit: Floats, outputs: Floats, awake: NDArray[np.bool_]) -> Mixed:
        """See ``Additive``."""
        weights, top = self._levels_by_pattern(credit, awake)
        if not len(self._taus):
            return Mixed(weights, top)
        logs = geometric.logs_of(outputs)
        exponents = weights[:, self._linear + 1 :] * self._taus[:, None]
        return Mixed(weights, top, logs, geometric.pool(logs, exponents))

    def shares(self, mixing: Mixed) -> Floats:
        """See ``Additive``."""
        return self._shares(mixing.weights, mixing.top)

    def mix(self, mixing: Mixed, outputs: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Additive``."""
        means = self._linear + 1
        fused = mean_of(outputs, self._shares(mixing.weights[:, :means], mixing.top[:, :means])).T
        if mixing.pools is not None:
            for g in range(len(self._taus)):
                fused += mixing.top[:, means + g] * mixing.pools[g]
            fused[:, ~awake.any(axis=1)] = 0.0
        return np.ascontiguousarray(fused.T)

    def taught(self, mixing: Mixed, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        weights, awake, labels = mixing.weights, labelled.awake, labelled.labels
        points = self.loss.points(labelled.outputs, labels)
        means = self._linear + 1
        r = regrets(self.loss, points, weights[:, : self._linear], awake, labels)
        of_arms = np.matmul(weights[:, :means], points)
        if mixing.logs is not None and mixing.pools is not None:
            more = geometric.regrets(mixing.logs, mixing.pools, weights[:, means:], self._taus, awake, labels)
            r = np.concatenate([r, more], axis=1)
            truth = mixing.pools[:, labels.astype(np.int64), np.arange(len(labels))].T
            of_arms = np.concatenate([of_arms, truth[..., None]], axis=1)
        somebody = np.broadcast_to(awake.any(axis=1, keepdims=True), of_arms.shape[:2])
        r_top = regrets(self.loss, of_arms, mixing.top[:, None], somebody, labels)[:, 0]
        return self._named(r, r_top)

    @staticmethod
    def _shares(weights: Floats, top: Floats) -> Floats:
        result: Floats = np.matmul(top[:, None], weights)[:, 0]
        return result

    def _named(self, r: Floats, r_top: Floats) -> Increments:
        """Regrets as increments. Shapes: r R x A x K, r_top R x J."""
        rows, a, k = r.shape
        j = r_top.shape[1]
        top, sizes, top_sizes = self._ends
        matrix = np.empty((rows, top_sizes + j))
        by_arm = matrix[:, :top].reshape(rows, a, 2, k)
        by_arm[:, :, 0] = r
        by_arm[:, :, 1] = r * r
        matrix[:, top:sizes:2] = r_top
        matrix[:, top + 1 : sizes : 2] = r_top * r_top
        matrix[:, sizes:top_sizes] = np.abs(r).reshape(rows, a * k)
        matrix[:, top_sizes:] = np.abs(r_top)
        return Increments(
            {name: matrix[:, place] for name, place in self._sums.items()},
            {name: matrix[:, place] for name, place in self._maxima.items()},
            matrix,
        )

    def _levels_by_pattern(self, credit: Floats, awake: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """As :meth:`levels`, worked out once for each set of awake members; 1 row where all are the same."""
        if credit.ndim > 1:
            return self.levels(credit, awake)
        if (awake == awake[:1]).all():
            return self.levels(credit, awake[:1])
        first, which = patterns(awake)
        weights, top = self.levels(credit, awake[first])
        return weights[which], top[which]


def _credit(weights: Floats, top: Floats) -> Floats:
    """Shapes: weights (S x) A x K, top (S x) J; result (S x) (A K + J)."""
    return np.concatenate([weights.reshape(*weights.shape[:-2], -1), top], axis=-1)


def _side_by_side(widths: Sequence[tuple[str, int]], begin: int) -> dict[str, slice]:
    """Places of arrays of these widths as columns of a matrix, one after the other."""
    places = {}
    for name, width in widths:
        places[name] = slice(begin, begin + width)
        begin += width
    return places
