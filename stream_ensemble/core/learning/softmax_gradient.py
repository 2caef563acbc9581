"""Gradient descent in softmax logits: ``w = softmax(theta)``, ``theta_i += rate w_i r_i``.

``dL/dtheta_i = -w_i r_i`` exactly, with the w the request was fused with (over the awake), so gradients add
up: order-free here, and stale by the labels' delay. A fixed rate needs tuning to the loss's scale, and no
regret bound is claimed (the loss is not convex in the logits): for comparison.

References:
    Kivinen, Warmuth (1997), Exponentiated gradient versus gradient descent; for the softmax form torch's
    autograd is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.additive import AdditiveMean, Floats, Increments
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.losses import LogLoss, Loss, regrets
from stream_ensemble.core.learning.pooling import over_awake


class SoftmaxGradient(AdditiveMean):
    """Softmax weights over K members; credit is K weights, the largest 1.

    Args:
        rate: step length, per unit of loss.
        loss: of the fused output.
    """

    name = "softmax_gradient"

    def __init__(self, members: tuple[str, ...], rate: float, loss: Loss | None = None) -> None:
        self.members = members
        self.half_lives = {}
        self._rate = rate
        self.loss = loss or LogLoss()

    def credits(self, sums: Mapping[str, Floats], maxima: Mapping[str, Floats]) -> Floats:
        """See ``Additive``."""
        descent = sums.get("-gradient", np.zeros(len(self.members)))
        result: Floats = np.exp(self._rate * (descent - descent.max(axis=-1, keepdims=True)))
        return result

    def pool(self, credit: Floats, awake: NDArray[np.bool_]) -> Floats:
        """See ``Algorithm``."""
        return over_awake(credit, awake, 0.0)

    def taught(self, mixing: Floats, labelled: Labelled) -> Increments:
        """See ``Additive``."""
        points = self.loss.points(labelled.outputs, labelled.labels)
        r = regrets(self.loss, points, mixing[:, None], labelled.awake, labelled.labels)[:, 0]
        return Increments({"-gradient": mixing * r}, {})
