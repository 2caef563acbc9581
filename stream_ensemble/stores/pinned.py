"""Pinned weights as a fuser uses them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.control import NOTHING, joined, pin_of
from stream_ensemble.core.learning.fixed import Fixed
from stream_ensemble.errors import StateError
from stream_ensemble.messages import Calibration, ControlState, Pin, PinnedWeights
from stream_ensemble.stores.contributions import Stored
from stream_ensemble.stores.control_state import state_of


@dataclass(frozen=True, slots=True)
class Pinned:
    """What is fused with instead of the learned weights.

    Attributes:
        number: of the control record.
        digest: names algorithm and values.
        algorithm: that fuses with them.
        values: its credit; not to be changed.
        calibration: the temperatures for its outputs; None: there are none.
    """

    number: int
    digest: str
    algorithm: Algorithm
    values: NDArray[np.float64]
    calibration: Calibration | None = None


class Pins:
    """The pins in effect, from the control states of all partitions.

    Attributes:
        refused: why some states could not be read; they count nothing.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.refused: list[StateError] = []
        self._algorithm = algorithm
        self._state = NOTHING
        self._made: dict[tuple[str, str | None, int, str], Pinned] = {}

    def take(self, fields: Mapping[int, Stored]) -> None:
        """Take the control states by partition; what they come to never goes back."""
        state, self.refused = state_of(fields)
        self._state = joined((self._state, state))

    @property
    def state(self) -> ControlState:
        """What the control records come to."""
        return self._state

    def of(self, segment: str | None) -> Pinned | None:
        """What requests of a segment are fused with instead of the learned weights."""
        pin = pin_of(self._state, segment)
        if pin is None:
            return None
        name = (pin.by, pin.segment, pin.number, pin.id)
        if name not in self._made:
            self._made[name] = pinned_by(pin, self._algorithm)
        return self._made[name]


def pinned_by(pin: Pin, algorithm: Algorithm) -> Pinned:
    """The weights of a pin for an ensemble with ``algorithm``.

    As this algorithm's credit, where they were kept as that and its members are still the same; else as a
    weighted mean of the outputs, in which a member the pin does not name weighs nothing, and which is not
    calibrated. Where only such members are awake they weigh the same.
    """
    assert pin.pinned is not None
    values, calibration = _as_credit(pin.pinned, algorithm), pin.pinned.calibration
    if values is None:
        calibration = None
        values = np.array([pin.pinned.weights.get(name, 0.0) for name in algorithm.members], np.float64)
        algorithm = Fixed(algorithm.members, values)
    values.flags.writeable = False
    said = msgspec.json.encode(pin) + algorithm.name.encode()
    digest = hashlib.blake2b(said, digest_size=8).hexdigest()
    return Pinned(pin.number, digest, algorithm, values, calibration)


def _as_credit(pinned: PinnedWeights, algorithm: Algorithm) -> NDArray[np.float64] | None:
    block = pinned.credit
    if block is None or (block.algorithm, block.members) != (algorithm.name, algorithm.members):
        return None
    try:
        values = credit_block.decode(credit_block.digest_of(block), block)
    except StateError:
        return None
    fits = len(values) == len(algorithm.credit(algorithm.merge([]))) and (values >= 0).all()
    return values if fits else None
