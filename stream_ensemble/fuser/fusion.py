"""From ended requests to fused records: which weights, the pooling, the credit that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from stream_ensemble.core.fusion.early import decided_early
from stream_ensemble.core.fusion.linear_pool import linear_pool
from stream_ensemble.core.join.records import Decided, Status
from stream_ensemble.core.join.slots import Slots
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.calibration import calibrated
from stream_ensemble.core.learning.membership import Membership, WarmStart
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.kafka.encode import Encoded, FusedFormat, FusedRows, together
from stream_ensemble.kafka.encode_fast import single
from stream_ensemble.kafka.encode_few import Given, Shares, few
from stream_ensemble.messages import Calibration, Credit, CreditBlock, WeightsVersion
from stream_ensemble.stores.credit_snapshot import CreditSnapshot

#: A credit block stands again in the fused log at least this often (s): a keyframe.
KEYFRAME_S = 60.0
#: Entries of a cache here; new weights make new ones.
_MOST_KEPT = 4096
#: So many requests or fewer are fused one by one: arrays would take longer.
FEW = 16


class Weights(Protocol):
    """Where current weights come from; all are plain reads."""

    degraded: str | None

    def current(self) -> CreditSnapshot:
        """The weights in use for the whole."""
        ...

    def of_segment(self, segment: str) -> CreditSnapshot | None:
        """Those in use for a segment, to be mixed with those of the whole; None: it has none."""
        ...


class InUse(NamedTuple):
    """What is learned for requests: the weights of the whole, and those of their segment if it has any."""

    everywhere: CreditSnapshot
    own: CreditSnapshot | None

    def credit(self, calibration: Calibration | None) -> Credit:
        """What a label for one of them is charged against, and what its output was calibrated with."""
        own = self.own.digest if self.own else None
        return Credit(everywhere=self.everywhere.digest, segment=own, calibration=calibration)

    @property
    def blocks(self) -> dict[str, CreditBlock]:
        """The blocks that this credit names, by digest."""
        return {snapshot.digest: snapshot.block for snapshot in self if snapshot is not None}


#: Names what requests are fused with: a pin or the whole's credit, the segment's if it is mixed in, and who
#: has part in it.
_Digests = tuple[str, str | None, Membership]


class Issued(NamedTuple):
    """What requests are fused with: what is in use, or a pin in its place.

    Attributes:
        pool: weights over the awake members; shapes R x K, R x K.
        fuse: the fused outputs; shapes R x K x C and R x K, result R x C.
        linear: are these the mean of the outputs with those weights?
        calibration: what they are calibrated with then; None: nothing.
        members: who is awaited: nobody else has weight; and the warm shares, which ``pool`` and ``fuse`` have
            in them.
    """

    digests: _Digests
    version: WeightsVersion
    pool: Callable[[NDArray[np.bool_]], NDArray[np.float64]]
    fuse: Callable[[NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]]
    linear: bool
    calibration: Calibration | None
    members: Membership


class Fusion:
    """Fuses the ended requests of one partition.

    Args:
        clock: monotonic seconds, for keyframes only: they shape no decision.
        domain: what the members' outputs are.
        write: how fused rows become records.
        shadows: members (a bit mask) that the settings have in shadow.
    """

    def __init__(
        self,
        algorithm: Additive[Any],
        weights: Weights,
        prior: NDArray[np.float64] | None,
        clock: Callable[[], float],
        *,
        domain: Domain,
        write: Callable[[FusedRows, FusedFormat], Encoded] = single,
        shadows: int = 0,
    ) -> None:
        self._algorithm = algorithm
        self._mixture = SegmentMixture(algorithm)
        self._weights = weights
        self._prior = prior
        self._clock = clock
        self._write = write
        self._domain = domain
        self._by_settings = Membership((1 << len(algorithm.members)) - 1 & ~shadows)
        self._written: dict[str, float] = {}
        self._pooled: dict[tuple[_Digests, int], NDArray[np.float64]] = {}
        self._shared: dict[tuple[_Digests, int], Shares] = {}

    @property
    def awaited(self) -> int:
        """Who is awaited, as a bit mask."""
        return (self._weights.current().membership or self._by_settings).awaited

    def encode(self, slots: Slots, decided: Decided, form: FusedFormat) -> Encoded:
        """The fused records of R ended requests; their ``order`` holds places in ``decided``."""
        if len(decided) <= FEW and self._write is single:
            encoded = self._encode_few(slots, decided, form)
            if encoded is not None:
                return encoded
        parts = []
        for segment, places in self._by_segment(slots, decided.slots):
            written = self._write(self._fuse(slots, decided, places, segment), form)
            parts.append(written._replace(order=places[written.order]))
        return together(parts)

    def _encode_few(self, slots: Slots, decided: Decided, form: FusedFormat) -> Encoded | None:
        """The same one by one; None where it takes more than that."""
        if slots.segment_of and not slots.segment_of.keys().isdisjoint(decided.slots.tolist()):
            return None
        in_use = self._in_use(None)
        issued = self._issued(in_use, None)
        if not issued.linear or self._due(in_use):
            return None
        shares = partial(self._shares, issued)
        degraded, credit = self._weights.degraded, in_use.credit(issued.calibration)
        return few(slots, decided, form, Given(shares, issued.version, degraded, credit, issued.members))

    def _shares(self, issued: Issued, mask: int) -> Shares:
        known = self._shared.get((issued.digests, mask))
        if known is None:
            _make_room(self._shared)
            weights = self._pooled_weights(issued, mask)
            awake = [k for k in range(len(weights)) if mask >> k & 1]
            shares = Shares(weights.tolist(), weights[awake].tobytes())
            known = self._shared[issued.digests, mask] = shares
        return known

    def certain(self, slots: Slots, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which open requests have an answer that the members still awaited cannot change. Shape: R."""
        found = np.zeros(len(numbers), np.bool_)
        for segment, places in self._by_segment(slots, numbers):
            rows = slots.row(numbers[places])
            pooled = partial(self._pooled_weights, self._issued(self._in_use(segment), segment))
            awake = slots.awake[rows]
            awaited = slots.expected[rows] & ~slots.answered[rows]
            found[places] = decided_early(slots.outputs[rows], awake, awaited, pooled, self._domain.highest)
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
        in_use = self._in_use(segment)
        components = slots.outputs[rows]
        awake = slots.awake[rows]
        issued = self._issued(in_use, segment)
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
            credit=in_use.credit(issued.calibration),
            members=issued.members,
            blocks=self._keyframe(in_use, status),
            traces=_traces(slots, numbers) if slots.trace_of else {},
        )

    def _in_use(self, segment: str | None) -> InUse:
        return InUse(self._weights.current(), None if segment is None else self._weights.of_segment(segment))

    def _issued(self, in_use: InUse, segment: str | None) -> Issued:
        """What requests are fused with; their credit is that of what is in use, even under a pin."""
        everywhere, own = in_use
        pinned = everywhere.pins.of(segment) if everywhere.pins else None
        members = everywhere.membership or self._by_settings
        if pinned is not None:
            version = structs.replace(everywhere.version, pin=pinned.number)
            cold = Membership(members.awaited)
            by, values, calibration = pinned.algorithm, pinned.values, pinned.calibration
            return _alone(pinned.digest, version, by, values, calibration, cold)
        version, calibration = everywhere.version, everywhere.calibration
        if own is None:
            issued = _alone(
                everywhere.digest, version, self._algorithm, everywhere.values, calibration, members
            )
        else:
            credit = everywhere.values, own.values
            pool, fuse = partial(self._mixture.pool, *credit), partial(self._mixture.fuse, *credit)
            digests = everywhere.digest, own.digest, members
            issued = Issued(digests, version, pool, fuse, self._algorithm.linear, calibration, members)
        if not members.shares:
            return issued
        warm = WarmStart(members.shares, issued.pool, issued.fuse)
        return issued._replace(pool=warm.pool, fuse=warm.fuse)

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
        key = (issued.digests, mask)
        known = self._pooled.get(key)
        if known is None:
            _make_room(self._pooled)
            weighted = mask & issued.members.awaited
            awake = np.array([[weighted >> k & 1 for k in range(len(self._algorithm.members))]], np.bool_)
            known = self._pooled[key] = issued.pool(awake)[0]
        return known

    def _pool(
        self,
        issued: Issued,
        components: NDArray[np.float64],
        awake: NDArray[np.uint64],
        weights: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        if issued.linear:
            outputs = linear_pool(components, weights)
        else:
            members = np.arange(components.shape[1], dtype=np.uint64)
            weighted = awake & np.uint64(issued.members.awaited)
            is_awake = (weighted[:, None] >> members & np.uint64(1)).astype(np.bool_)
            if (weighted != awake).any():
                components = components * is_awake[..., None]
            outputs = self._domain.fused(issued.fuse, components, is_awake)
        return outputs if issued.calibration is None else calibrated(outputs, issued.calibration)

    def _keyframe(self, in_use: InUse, status: NDArray[np.uint8]) -> dict[str, CreditBlock] | None:
        """The credit blocks, for the first pooled record that uses each, and again once a minute."""
        due = self._due(in_use)
        if not due or not ((status == Status.COMPLETE) | (status == Status.PARTIAL)).any():
            return None
        _make_room(self._written)
        self._written |= dict.fromkeys(due, self._clock())
        return due

    def _due(self, in_use: InUse) -> dict[str, CreditBlock]:
        """The blocks in use that have to stand in the log with the next pooled record."""
        now = self._clock()
        return {
            digest: block
            for digest, block in in_use.blocks.items()
            if now - self._written.get(digest, float("-inf")) >= KEYFRAME_S
        }


def _alone(
    digest: str,
    version: WeightsVersion,
    by: Algorithm,
    values: NDArray[np.float64],
    calibration: Calibration | None,
    members: Membership,
) -> Issued:
    pool, fuse = partial(by.pool, values), partial(by.fuse, values)
    return Issued((digest, None, members), version, pool, fuse, by.linear, calibration, members)


def _make_room(cache: dict[Any, Any]) -> None:
    if len(cache) > _MOST_KEPT:
        cache.clear()


def _traces(slots: Slots, numbers: NDArray[np.int64]) -> dict[int, bytes]:
    found = ((row, slots.trace_of.get(slot)) for row, slot in enumerate(numbers.tolist()))
    return {row: trace for row, trace in found if trace is not None}
