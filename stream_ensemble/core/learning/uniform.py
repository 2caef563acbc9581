"""The plain average: the same weight for every awake member.

``w_i = 1 / |awake|``. No regret bound, and hard to beat with few labels (Clemen 1989, Combining forecasts: a
review and annotated bibliography). Order-free, as nothing is learned.
"""

from __future__ import annotations

import numpy as np

from stream_ensemble.core.learning.fixed import Fixed


def uniform(members: tuple[str, ...]) -> Fixed:
    """The plain average over K members."""
    return Fixed(members, np.ones(len(members)), "uniform")
