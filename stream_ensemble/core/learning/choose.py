"""The algorithm that the settings name."""

from __future__ import annotations

import numpy as np

from stream_ensemble.config import Classification, Learning
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.fixed import Fixed, uniform
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.errors import SettingsError


def make(learning: Learning, task: Classification, members: tuple[str, ...]) -> Algorithm:
    """The algorithm of these settings for K members.

    Raises:
        SettingsError: the settings name an algorithm that is not there.
    """
    algorithm: str = learning.algorithm
    if algorithm == "bank":
        return Bank(members, LogLoss(), floor=learning.floor)
    if algorithm == "ml_poly":
        return MLPoly(members, learning.half_life, learning.floor)
    if algorithm == "uniform":
        return uniform(members)
    if algorithm == "fixed":
        given = learning.weights or {}
        return Fixed(members, np.array([given.get(name, 0.0) for name in members], np.float64))
    raise SettingsError(f"learning.algorithm = {algorithm!r}: expected bank, ml_poly, uniform or fixed")
