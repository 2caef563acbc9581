"""All that counts of one key: the partitions' fields as one contribution."""

from __future__ import annotations

from collections.abc import Mapping

from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.stores.contributions import Stored


def whole_of(algorithm: Algorithm, fields: Mapping[int, Stored]) -> Contribution:
    """The sum over the partitions, in their order, of those of the newest generation.

    Raises:
        StateError: a field cannot be read.
    """
    generation = max((stored.order.generation for stored in fields.values()), default=0)
    used = [stored for _, stored in sorted(fields.items()) if stored.order.generation == generation]
    return algorithm.merge([from_bytes(stored.value) for stored in used])
