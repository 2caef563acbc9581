"""Linear pooling: the fused output is the weighted mean of the members' outputs (Stone 1961, "the opinion
pool").
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def linear_pool(outputs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fuse R requests: ``sum_k weights[r, k] * outputs[r, k]``.

    Shapes: outputs R x K x V, weights R x K (zero where asleep), result R x V. Members are added one after
    the other with separate multiply and add, so that a row's result does not depend on the other rows and
    replay gives the same bits.
    """
    weighed = (torch.from_numpy(weights).unsqueeze(2) * torch.from_numpy(outputs)).unbind(1)
    fused = weighed[0]
    for one in weighed[1:]:
        fused = fused + one
    result: NDArray[np.float64] = fused.numpy()
    return result
