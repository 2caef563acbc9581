"""From all contributions to what a fuser fuses with: credit, its block, and the version of the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning import contribution, credit_block
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.calibration import calibrates, calibration_of
from stream_ensemble.core.learning.contribution import Contribution, Vector
from stream_ensemble.core.learning.membership import WARM_LABELS, Membership
from stream_ensemble.errors import StateError
from stream_ensemble.messages import Calibration, CreditBlock, WeightsVersion
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.pinned import Pins


@dataclass(frozen=True, slots=True)
class CreditSnapshot:
    """Weights at one moment.

    Attributes:
        digest: names ``block``.
        block: the credit as it stands in fused records.
        values: the same as numbers, in the algorithm's layout; not to be changed.
        version: generation, labels learned, digest of the contributions' orders.
        pins: which requests are fused with other weights; the credit of a label is that of ``values`` all the
            same.
        counted: labels that members were charged with a warm share for, over all of them; None: none were.
        membership: who is awaited and who has a warm share; None: as the settings have it.
        calibration: the temperatures for the fused outputs; None: there are none.
    """

    digest: str
    block: CreditBlock
    values: NDArray[np.float64]
    version: WeightsVersion
    pins: Pins | None = None
    counted: NDArray[np.float64] | None = None
    membership: Membership | None = None
    calibration: Calibration | None = None


class Crediting(Protocol):
    """What makes credit of contributions: an algorithm, or a segment's mixture."""

    name: str
    members: tuple[str, ...]

    def merge(self, parts: Sequence[Contribution]) -> Contribution:
        """The sum of the partitions' contributions, in their order."""
        ...

    def credit(self, whole: Contribution) -> Vector:
        """What a request is fused with."""
        ...


class Pool:
    """Pools the contributions to one key; keeps each one decoded until a newer one comes.

    Attributes:
        refused: by partition, why its contribution is not used.
    """

    def __init__(self, algorithm: Algorithm) -> None:
        self.refused: dict[int, StateError] = {}
        self._algorithm = algorithm
        self._calibrated = calibrates(algorithm)
        self._decoded: dict[int, tuple[Order, Contribution]] = {}

    def snapshot(self, fields: Mapping[int, Stored]) -> CreditSnapshot:
        """The weights that these contributions (by partition) make together.

        Contributions of an older generation count nothing: their owner has not seen the reset yet.
        """
        for partition, stored in fields.items():
            self._decode(partition, stored)
        return snapshot_of(self._algorithm, self._decoded, calibrated=self._calibrated)

    def _decode(self, partition: int, stored: Stored) -> None:
        """A value that cannot be read leaves the one before in use."""
        held = self._decoded.get(partition)
        if held is not None and held[0] == stored.order:
            return
        try:
            self._decoded[partition] = stored.order, contribution.from_bytes(stored.value)
            self.refused.pop(partition, None)
        except StateError as error:
            self.refused[partition] = error


def snapshot_of(
    algorithm: Crediting,
    decoded: Mapping[int, tuple[Order, Contribution]],
    generation: int = 0,
    *,
    calibrated: bool = False,
) -> CreditSnapshot:
    """The weights that contributions (by partition) make together.

    Args:
        generation: the least that counts, for there has been a reset.
        calibrated: are temperatures to be made of them too?
    """
    generation = max([generation, *(order.generation for order, _ in decoded.values())])
    used = {
        partition: (order, part)
        for partition, (order, part) in sorted(decoded.items())
        if order.generation == generation
    }
    whole = algorithm.merge([part for _, part in used.values()])
    values = np.array(algorithm.credit(whole))
    values.flags.writeable = False
    digest, block = credit_block.encode(algorithm.name, generation, whole.n, algorithm.members, values)
    orders = repr([(partition, tuple(order)) for partition, (order, _) in used.items()])
    version = WeightsVersion(
        generation=generation,
        n=whole.n,
        digest=hashlib.blake2b(orders.encode(), digest_size=8).hexdigest(),
    )
    return CreditSnapshot(
        digest,
        block,
        values,
        version,
        counted=whole.sums.get(WARM_LABELS),
        calibration=calibration_of(whole) if calibrated else None,
    )
