"""From ended requests to fused records: which weights, the pooling, the credit that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_ensemble.core.fusion.early import decided_early
from stream_ensemble.core.fusion.linear_pool import linear_pool
from stream_ensemble.core.join.records import Decided, Status
from stream_ensemble.core.join.slots import Slots
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.kafka.encode import Encoded, FusedFormat, FusedRows, together
from stream_ensemble.kafka.encode_fast import single
from stream_ensemble.messages import Credit, CreditBlock, WeightsVersion
from stream_ensemble.stores.credit_snapshot import CreditSnapshot

#: A credit block stands again in the fused log at least this often (s): a keyframe.
KEYFRAME_S = 60.0


class Weights(Protocol):
    """Where current weights come from; both are plain reads."""

    degraded: str | None

    def current(self, segment: str | None) -> CreditSnapshot:
        """The weights in use for a segment (None: everywhere)."""


class Issued(NamedTuple):
    """What requests are fused with: an algorithm and its credit, named by a digest, and their version."""

    digest: str
    algorithm: Algorithm
    values: NDArray[np.float64]
    version: WeightsVersion


class Fusion:
    """Fuses the ended requests of one partition.

    Args:
        clock: monotonic seconds, for keyframes only: they shape no decision.
        write: how fused rows become records.
        highest: the largest number a member's output may contain, for early decisions.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        weights: Weights,
        prior: NDArray[np.float64] | None,
        clock: Callable[[], float],
        *,
        write: Callable[[FusedRows, FusedFormat], Encoded] = single,
        highest: float = 1.0,
    ) -> None:
        self._algorithm = algorithm
        self._weights = weights
        self._prior = prior
        self._clock = clock
        self._write = write
        self._highest = highest
        self._written: dict[str, float] = {}
        self._pooled: dict[tuple[str, int], NDArray[np.float64]] = {}

    def encode(self, slots: Slots, decided: Decided, form: FusedFormat) -> Encoded:
        """The fused records of R ended requests; their ``order`` holds places in ``decided``."""
        parts = []
        for segment, places in self._by_segment(slots, decided.slots):
            written = self._write(self._fuse(slots, decided, places, segment), form)
            parts.append(written._replace(order=places[written.order]))
        return together(parts)

    def certain(self, slots: Slots, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which open requests have an answer that the members still awaited cannot change. Shape: R."""
        found = np.zeros(len(numbers), np.bool_)
        for segment, places in self._by_segment(slots, numbers):
            rows = slots.row(numbers[places])
            pooled = partial(self._pooled_weights, self._issued(self._weights.current(segment), segment))
            awake = slots.awake[rows]
            awaited = slots.expected[rows] & ~slots.answered[rows]
            found[places] = decided_early(slots.outputs[rows], awake, awaited, pooled, self._highest)
        return found

    def _by_segment(
        self, slots: Slots, numbers: NDArray[np.int64]
    ) -> list[tuple[str | None, NDArray[np.intp]]]:
        everything = np.arange(len(numbers))
        if not slots.segment_of:
            return [(None, everything)]
        places: dict[str | None, list[int]] = {}
        for place, slot in enumerate(numbers.tolist()):
            places.setdefault(slots.segment_of.get(slot), []).append(place)
        return [(segment, np.array(found)) for segment, found in places.items()]

    def _fuse(
        self, slots: Slots, decided: Decided, places: NDArray[np.intp], segment: str | None
    ) -> FusedRows:
        numbers = decided.slots[places]
        rows = slots.row(numbers)
        status = decided.status[places]
        snapshot = self._weights.current(segment)
        components = slots.outputs[rows]
        awake = slots.awake[rows]
        issued = self._issued(snapshot, segment)
        weights = self._weights_of(issued, awake)
        outputs = self._pool(issued, components, awake, weights)
        if self._prior is not None:
            outputs[status == Status.FALLBACK] = self._prior
        return FusedRows(
            ids=slots.ids[rows].tolist(),
            status=status,
            cause=decided.cause[places],
            at=slots.at[rows],
            outputs=outputs,
            components=components,
            offsets=slots.offsets[rows],
            within=slots.rows[rows] if slots.columnar else None,
            weights=weights,
            awake=awake,
            answered=slots.answered[rows],
            abstained=slots.abstained[rows],
            expected=slots.expected[rows],
            segment=segment,
            version=issued.version,
            degraded=self._weights.degraded,
            credit=Credit(everywhere=snapshot.digest),
            blocks=self._keyframe(snapshot, status),
            traces=_traces(slots, numbers) if slots.trace_of else {},
        )

    def _issued(self, snapshot: CreditSnapshot, segment: str | None) -> Issued:
        """What requests are fused with; their credit is the snapshot's, even under a pin."""
        pinned = snapshot.pins.of(segment) if snapshot.pins else None
        if pinned is None:
            return Issued(snapshot.digest, self._algorithm, snapshot.values, snapshot.version)
        version = structs.replace(snapshot.version, pin=pinned.number)
        return Issued(pinned.digest, pinned.algorithm, pinned.values, version)

    def _weights_of(self, issued: Issued, awake: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Weights over the awake members, R x K, or 1 x K where all have the same members awake.

        One pooling per set of awake members and credit.
        """
        if (awake == awake[0]).all():
            return self._pooled_weights(issued, int(awake[0]))[None]
        masks, which = np.unique(awake, return_inverse=True)
        table = np.stack([self._pooled_weights(issued, mask) for mask in masks.tolist()])
        weights: NDArray[np.float64] = table[which]
        return weights

    def _pooled_weights(self, issued: Issued, mask: int) -> NDArray[np.float64]:
        known = self._pooled.get((issued.digest, mask))
        if known is None:
            if len(self._pooled) > 4096:
                self._pooled.clear()
            members = len(issued.algorithm.members)
            awake = np.array([[mask >> k & 1 for k in range(members)]], np.bool_)
            known = issued.algorithm.pool(issued.values, awake)[0]
            self._pooled[issued.digest, mask] = known
        return known

    def _pool(
        self,
        issued: Issued,
        components: NDArray[np.float64],
        awake: NDArray[np.uint64],
        weights: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        if issued.algorithm.linear:
            return linear_pool(components, weights)
        members = np.arange(components.shape[1], dtype=np.uint64)
        is_awake = (awake[:, None] >> members & np.uint64(1)).astype(np.bool_)
        return issued.algorithm.fuse(issued.values, components, is_awake)

    def _keyframe(self, snapshot: CreditSnapshot, status: NDArray[np.uint8]) -> dict[str, CreditBlock] | None:
        """The credit block, for the first pooled record that uses it, and again once a minute."""
        now = self._clock()
        digest = snapshot.digest
        if now - self._written.get(digest, float("-inf")) < KEYFRAME_S:
            return None
        if not ((status == Status.COMPLETE) | (status == Status.PARTIAL)).any():
            return None
        if len(self._written) > 4096:
            self._written.clear()
        self._written[digest] = now
        return {digest: snapshot.block}


def _traces(slots: Slots, numbers: NDArray[np.int64]) -> dict[int, bytes]:
    found = ((row, slots.trace_of.get(slot)) for row, slot in enumerate(numbers.tolist()))
    return {row: trace for row, trace in found if trace is not None}
