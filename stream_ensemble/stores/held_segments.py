"""What a fuser holds of segments: the most recently used ones, never more than told. No I/O, no clock."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from stream_ensemble.core.learning import contribution
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.errors import StateError
from stream_ensemble.stores.contributions import Key, Order, Snapshot, Stored
from stream_ensemble.stores.credit_snapshot import CreditSnapshot, snapshot_of

_LOWEST = Order(0, 0, 0)


@dataclass(slots=True)
class _Held:
    """A segment as it was read: the contributions' orders by partition, and the weights they make.

    ``read`` is the round of reading (see ``HeldSegments.changed``) it is of.
    """

    orders: dict[int, Order]
    snapshot: CreditSnapshot
    read: int


class HeldSegments:
    """Weights of segments, by name, for the hot path to look up and a reader to keep fresh.

    A segment that is not held is answered with the weights of one that has learned nothing, which are the
    global ones, and is wanted from then on. So is one that turns out to be cold, until its owners have
    brought it back. One that is held stays in use, and is asked for only if that is not all there was.

    Args:
        task: name of the task.
        partitions: P, the number of owners.
        most: segments held; the one not used for longest goes first. 0: none, nor any credit of theirs.

    Attributes:
        counts: look-ups by what was found: ``held`` or ``unread``; segments ``dropped``, and found ``cold``.
        damaged: contributions that were refused in the last reading of their segment, by segment.
        round: how often ``changed`` was called.
    """

    def __init__(self, mixture: SegmentMixture, *, task: str, partitions: int, most: int) -> None:
        self.counts: Counter[str] = Counter()
        self.damaged: dict[str, StateError] = {}
        self._mixture = mixture
        self._task = task
        self._partitions = frozenset(range(partitions))
        self._most = most
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._wanted: dict[str, None] = {}
        self._cold: dict[str, None] = {}
        self.round = 0
        self._nothing = snapshot_of(mixture, {})

    def __len__(self) -> int:
        return len(self._held)

    @property
    def wanted(self) -> int:
        """How many segments are asked for and not held."""
        return len(self._wanted)

    def current(self, segment: str) -> CreditSnapshot | None:
        """The weights in use for a segment; None where none are held at all."""
        held = self._held.get(segment)
        if held is not None:
            self._held.move_to_end(segment)
            self.counts["held"] += 1
            # A reset has been seen that the segment's owners have not said yet: nothing counts from before.
            older = held.snapshot.version.generation < self._nothing.version.generation
            return self._nothing if older else held.snapshot
        if not self._most:
            return None
        self.counts["unread"] += 1
        if len(self._wanted) < self._most:
            self._wanted[segment] = None
        return self._nothing

    def begin(self, generation: int) -> None:
        """The global weights are of this generation now."""
        if generation > self._nothing.version.generation:
            self._nothing = snapshot_of(self._mixture, {}, generation)

    def changed(self) -> None:
        """Somebody has published: what is held may be old."""
        self.round += 1

    def to_read(self, most: int) -> list[Key]:
        """What to read next: segments asked for and not held, then the most recently used that may be old.

        Those not held are forgotten as wanted: who still needs one asks again.
        """
        unread = list(islice(self._wanted, most))
        for segment in unread:
            del self._wanted[segment]
        old = (segment for segment, held in reversed(self._held.items()) if held.read < self.round)
        return [Key(self._task, segment) for segment in (*unread, *islice(old, most - len(unread)))]

    def cold(self, most: int) -> list[Key]:
        """Cold segments that the owners are to bring back, other ones each time; they are read again next."""
        some = list(islice(self._cold, most))
        for segment in some:
            del self._cold[segment]
            self._cold[segment] = self._wanted[segment] = None
        return [Key(self._task, segment) for segment in some]

    def take(self, snapshot: Snapshot, complete: frozenset[int], asked: int) -> int:
        """Take what was read, when ``round`` was ``asked``; returns how many segments are still not held.

        An absent contribution is nothing learned only where its owner's marker is ``complete``: a segment
        not held stays so until that is known. A held one never goes back. Those that are cold are not
        counted: their owners have to be asked first.
        """
        damaged = {key: error for (key, _), error in snapshot.damaged.items() if key is not None}
        before = {key.segment: self._held.get(key.segment or "") for key in snapshot.fields}
        unknown = 0
        for key, fields in snapshot.fields.items():
            if key.segment is None:
                continue
            held = before[key.segment]
            if held is not None and key.segment not in self._held:
                continue  # it has just made room for another
            if held is not None:
                held.read = asked
            self.damaged.pop(key.segment, None)
            if key in damaged:
                self.damaged[key.segment] = damaged[key]
            elif left := snapshot.cold.get(key):
                self._take_cold(key.segment, held, fields, left)
                continue
            elif held is not None or self._partitions - fields.keys() <= complete:
                self._cold.pop(key.segment, None)
                self._take(key.segment, fields, asked)
            unknown += key.segment not in self._held
        return unknown

    def take_log(self, records: Iterable[tuple[Key, int, Stored]]) -> None:
        """Take the contributions that the weights topic holds, as far as there is room."""
        found: dict[str, dict[int, Stored]] = {}
        for key, partition, stored in records:
            if key.task == self._task and key.segment is not None:
                found.setdefault(key.segment, {})[partition] = stored
        for segment, fields in islice(found.items(), self._most):
            self._take(segment, fields, self.round)

    def _take_cold(
        self, segment: str, held: _Held | None, fields: Mapping[int, Stored], left: Mapping[int, Order]
    ) -> None:
        """All or part of a segment has left Redis; what is there alone would be taken for all of it."""
        there = {partition: stored.order for partition, stored in fields.items()}
        newest = {**there, **left}
        if held is not None and all(held.orders.get(p, _LOWEST) >= order for p, order in newest.items()):
            self._cold.pop(segment, None)
        elif segment not in self._cold and len(self._cold) < self._most:
            self.counts["cold"] += 1
            self._cold[segment] = None

    def _take(self, segment: str, fields: Mapping[int, Stored], asked: int) -> None:
        held = self._held.get(segment)
        orders = {partition: stored.order for partition, stored in fields.items()}
        if held is not None and (orders == held.orders or _goes_back(orders, held.orders)):
            return
        try:
            decoded = {
                p: (stored.order, contribution.from_bytes(stored.value)) for p, stored in fields.items()
            }
        except StateError as error:
            self.damaged[segment] = error
            return
        generation = self._nothing.version.generation
        snapshot = snapshot_of(self._mixture, decoded, generation) if decoded else self._nothing
        self._held[segment] = _Held(orders, snapshot, asked)
        self._wanted.pop(segment, None)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._held) > self._most:
            self._held.popitem(last=False)
            self.counts["dropped"] += 1


def _goes_back(new: Mapping[int, Order], old: Mapping[int, Order]) -> bool:
    return any(partition not in new or new[partition] < order for partition, order in old.items())
