"""What a backtest's fused outputs would have been calibrated to: what ``calibration`` makes live, many rows
at a time. Calibration changes nothing of what is learned of the members, so it is played behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stream_ensemble.core.learning import calibration
from stream_ensemble.core.learning.additive import Floats, Increments
from stream_ensemble.core.learning.backtest import Stream, in_chunks
from stream_ensemble.core.learning.prefix_states import PrefixStates
from stream_ensemble.messages import Calibration


class PlayedCalibrated(NamedTuple):
    """What came of it.

    Attributes:
        fused: T x C, calibrated.
        last: the temperatures of the last row.
    """

    fused: Floats
    last: Calibration


def play_calibrated(stream: Stream, fused: Floats) -> PlayedCalibrated:
    """Calibrate every row with what had been learned by then.

    Args:
        fused: T x C class probabilities, as issued before; zeros where nobody was awake.
    """
    found = np.zeros(fused.shape)
    states = PrefixStates(_Temperatures(), len(fused))
    temperatures = np.ones((1, len(calibration.KNOTS) + 1))
    for chunk in in_chunks(stream):
        here = chunk.rows
        temperatures = states.credits(chunk.arrived, chunk.counts)
        found[here] = calibration.calibrated_at(fused[here], temperatures)
        taught = calibration.losses(fused[here], stream.labels[here].astype(np.int64))
        states.keep(here, Increments({calibration.LOSSES: taught}, {}), chunk.clocks)
    return PlayedCalibrated(found, calibration.of_numbers(temperatures[-1]))


class _Temperatures:
    """Makes temperatures of states."""

    half_lives: Mapping[str, float | None] = {calibration.LOSSES: calibration.HALF_LIFE}

    def credits_of(self, matrix: Floats, sums: Mapping[str, slice], maxima: Mapping[str, slice]) -> Floats:
        """See ``Additive``; a state has no other array."""
        if not sums:
            return np.ones(len(calibration.KNOTS) + 1)
        return calibration.temperatures(matrix)
