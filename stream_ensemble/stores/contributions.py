"""The weights in Redis, from both sides: each owner publishes its own contributions, every fuser reads all.

Redis is a view of the learner's log and may be lost at any time. One hash per (task, segment), one field
per partition, replaced whole when its order is larger: no read-modify-write between learners, nothing twice,
and the late write of a stopped owner loses.

A segment that nobody labels or asks for goes cold: its hash leaves Redis whole, and a few bytes say which
partitions learned of it and up to which order. Each owner writes its own again when somebody wants it back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from stream_ensemble.errors import StateError


class Key(NamedTuple):
    """Whose weights: a task, and a segment of it or the whole (None)."""

    task: str
    segment: str | None = None


class Order(NamedTuple):
    """Decides between two states of one partition: the larger one is the newer one.

    A state in Redis carries the order of its record in the weights topic, so equal orders mean equal bytes.
    """

    generation: int
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Change:
    """A contribution to publish: ``value`` is the encoded contribution of one partition to ``key``.

    Attributes:
        at: when it was last taught or wanted, ms since 1970; 0: not known.
        cold: of a segment: mark it as cold instead, unless it stands in Redis by what others wrote.
    """

    key: Key
    order: Order
    value: bytes
    at: int = 0
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Marker:
    """An owner's word on what stands in Redis: with ``complete``, every field it ever had up to ``order``."""

    order: Order
    complete: bool


#: Stands for a partition where the mark of a cold segment is meant, which is about all of them.
MARK = -1

#: What became of a marker: written; not written because a larger one stands; or because the last one is gone.
Marking = Literal["written", "overtaken", "lost"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One field as read: the contribution of one partition to one key."""

    order: Order
    value: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All fields of some keys and all markers, read in one instant (of each shard, in a cluster).

    ``damaged`` holds what was refused: the error by (key, partition), with key None for a marker and
    partition ``MARK`` for the mark of a cold segment.
    ``highest`` is the largest order among a partition's markers, of which a cluster holds several, and
    ``markers`` has the lowest. ``cold`` has, by segment and partition, the order of what left Redis.
    """

    fields: Mapping[Key, Mapping[int, Stored]]
    markers: Mapping[int, Marker]
    damaged: Mapping[tuple[Key | None, int], StateError] = field(default_factory=dict)
    highest: Mapping[int, Order] = field(default_factory=dict)
    cold: Mapping[Key, Mapping[int, Order]] = field(default_factory=dict)

    def order(self, key: Key, partition: int) -> Order | None:
        """The order that Redis has of one field, be it there or cold."""
        stored, left = self.fields.get(key, {}).get(partition), self.cold.get(key, {}).get(partition)
        if stored is None or left is None:
            return left if stored is None else stored.order
        return max(stored.order, left)

    def largest(self) -> Order:
        """The largest order in it, of fields, what is cold, and markers."""
        orders = [stored.order for fields in self.fields.values() for stored in fields.values()]
        orders += [order for left in self.cold.values() for order in left.values()]
        marked = [marker.order for marker in self.markers.values()]
        return max([Order(0, 0, 0), *orders, *marked, *self.highest.values()])


class ContributionStore(Protocol):
    """Where owners publish contributions and fusers read them.

    Every method raises ``ServerUnavailableError`` when the server does not answer within the time-out. A call
    that timed out may have been carried out; repeating it is safe.
    """

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """Write the fields of ``partition`` whose order is not below what stands there or went cold.

        A segment of which this brings back a part is wanted from then on, until all of it is back.

        Returns, by change, whether it now stands (or is marked cold, where that was asked for); False means
        that a larger order was found and kept.
        """
        ...

    async def cool(self, keys: Sequence[Key], before: int) -> list[int | None]:
        """Take segments out of Redis whole, each in one instant, where no owner was taught of it since
        ``before`` (ms since 1970), and mark them as cold.

        Nothing is lost by whoever calls it: what an owner writes at that moment comes before, and stays, or
        after, and brings the segment back.

        Returns, by key: 0, it is cold; else when it was last taught, so it stays; None: it stays because a
        damaged value has to be mended first.
        """
        ...

    async def want(self, keys: Sequence[Key]) -> None:
        """Ask the owners to bring cold segments back; of those that are not cold nothing is asked."""
        ...

    async def wanted(self) -> list[Key]:
        """The segments that are to be brought back."""
        ...

    async def mark(self, partition: int, marker: Marker, *, after: Order | None = None) -> Marking:
        """Write the marker of ``partition`` in the same way, and tell the fusers that something is new.

        Args:
            after: the order of the marker that this owner wrote last. If another stands there, or none, the
                server has lost what stood with it, and a new marker would say what is not so: it is not
                written. One of the new order itself is an earlier call whose answer was lost.
        """
        ...

    async def remove_damaged(self, key: Key | None, partition: int) -> None:
        """Delete a field (or the marker, with key None; or a segment's mark of being cold, with partition
        ``MARK``) if it is damaged; leave a sound one alone.
        """
        ...

    async def markers(self) -> Snapshot:
        """The markers alone: what an idle fuser looks at."""
        ...

    async def own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        """The fields of one partition in ``keys``, or its orders where they are cold, and its marker: what an
        owner looks at.
        """
        ...

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """All fields of ``keys``, and all markers, in one instant; what is damaged is refused and listed."""
        ...

    def changes(self) -> AsyncIterator[int]:
        """Partitions whose owner has just published. A hint: it may miss some, and ends with the server."""
        ...

    async def close(self) -> None:
        """Close the connections; the store cannot be used afterwards."""
        ...
