"""Contributions in this process's memory: next to Redis in the contract suite, and for tests of its users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.stores.cold_mark import decode_mark, encode_mark
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_order,
    decode_snapshot,
    encode_field,
    encode_marker,
    encode_order,
    order_digits,
)
from stream_ensemble.stores.contributions import MARK, Change, Key, Marker, Marking, Order, Snapshot


class MemoryContributionStore:
    """A ``ContributionStore`` that keeps the very bytes Redis would keep.

    Set ``available`` to False and every call fails as when Redis is away; ``flush_all`` empties it.

    Attributes:
        hashes: fields by key and partition.
        marks: of cold segments.
        taught: when a segment was last taught or wanted (ms).
    """

    def __init__(self) -> None:
        self.hashes: dict[Key | None, dict[int, bytes]] = {}
        self.marks: dict[Key, bytes] = {}
        self.taught: dict[Key, int] = {}
        self._wanted: dict[Key, None] = {}
        self.available = True
        self._listeners: set[asyncio.Queue[int]] = set()

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``."""
        self._answer()
        return [self._publish(partition, change) for change in changes]

    async def cool(self, keys: Sequence[Key], before: int) -> list[int | None]:
        """See ``ContributionStore``."""
        self._answer()
        return [self._cool(key, before) for key in keys]

    async def want(self, keys: Sequence[Key]) -> None:
        """See ``ContributionStore``."""
        self._answer()
        self._wanted.update((key, None) for key in keys if key in self.marks)

    async def wanted(self) -> list[Key]:
        """See ``ContributionStore``."""
        self._answer()
        return list(self._wanted)

    async def mark(self, partition: int, marker: Marker, *, after: Order | None = None) -> Marking:
        """See ``ContributionStore``."""
        self._answer()
        raw = encode_marker(partition, marker)
        stands = order_digits(self.hashes.get(None, {}).get(partition, b""))
        if stands > order_digits(raw):
            return "overtaken"
        if after is not None and stands not in (encode_order(after), encode_order(marker.order)):
            return "lost"
        self._set(None, partition, raw)
        for listener in self._listeners:
            listener.put_nowait(partition)
        return "written"

    async def remove_damaged(self, key: Key | None, partition: int) -> None:
        """See ``ContributionStore``."""
        self._answer()
        if key is not None and partition == MARK:
            self._remove_damaged_mark(key)
            return
        raw = self.hashes.get(key, {}).get(partition)
        if raw is None:
            return
        try:
            decode_field(key, partition, raw)
        except StateError:
            del self.hashes[key][partition]

    async def markers(self) -> Snapshot:
        """See ``ContributionStore``."""
        return await self.read(())

    async def own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        self._answer()
        hashes = {key: self.hashes.get(key, {}) for key in (*keys, None)}
        all_of_it = decode_snapshot(
            {key: {p: raw for p, raw in fields.items() if p == partition} for key, fields in hashes.items()},
            self._marks_of(keys),
        )
        cold = {
            key: {partition: left[partition]} for key, left in all_of_it.cold.items() if partition in left
        }
        return replace(all_of_it, cold=cold)

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        self._answer()
        return decode_snapshot({key: self.hashes.get(key, {}) for key in (*keys, None)}, self._marks_of(keys))

    async def changes(self) -> AsyncIterator[int]:
        """See ``ContributionStore``."""
        self._answer()
        listener: asyncio.Queue[int] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            while True:
                yield await listener.get()
        finally:
            self._listeners.discard(listener)

    async def close(self) -> None:
        """See ``ContributionStore``."""
        self.available = False

    def flush_all(self) -> None:
        """Forget everything, as Redis' FLUSHALL."""
        for held in (self.hashes, self.marks, self.taught, self._wanted):
            held.clear()

    def _answer(self) -> None:
        if not self.available:
            raise ServerUnavailableError("the contribution store in memory is switched off")

    def _marks_of(self, keys: Sequence[Key]) -> dict[Key, bytes]:
        return {key: self.marks[key] for key in keys if key in self.marks}

    def _left(self, key: Key) -> dict[int, Order]:
        """What of a segment is cold."""
        try:
            return decode_mark(key, self.marks.get(key, b""))
        except StateError:
            return {}

    def _mark_as(self, key: Key, left: dict[int, Order]) -> None:
        if left:
            self.marks[key] = encode_mark(left)
        else:
            self.marks.pop(key, None)
            self._wanted.pop(key, None)

    def _publish(self, partition: int, change: Change) -> bool:
        key, left = change.key, self._left(change.key)
        stands = order_digits(self.hashes.get(key, {}).get(partition, b""))
        new, gone = encode_order(change.order), left.get(partition)
        if stands > new or (gone is not None and gone > change.order):
            return False
        if change.cold and (stands == new or gone == change.order):
            return True
        if change.cold and not self.hashes.get(key):
            self._mark_as(key, left | {partition: change.order})
            return True
        self._set(key, partition, encode_field(key, partition, change.order, change.value))
        if key.segment is not None:
            self.taught[key] = max(self.taught.get(key, 0), change.at)
        if key in self.marks:
            left.pop(partition, None)
            self._wanted[key] = None
            self._mark_as(key, left)
        return True

    def _cool(self, key: Key, before: int) -> int | None:
        fields, at = self.hashes.get(key), self.taught.get(key, 0)
        if not fields:
            return 0
        if at > before:
            return at
        left = self._left(key)
        for partition, raw in fields.items():
            digits = order_digits(raw)
            if not digits:
                return None
            order = decode_order(digits)
            left[partition] = max(order, left.get(partition, order))
        del self.hashes[key]
        self.taught.pop(key, None)
        self._wanted.pop(key, None)
        self.marks[key] = encode_mark(left)
        return 0

    def _remove_damaged_mark(self, key: Key) -> None:
        if key in self.marks and not self._left(key):
            del self.marks[key]

    def _set(self, key: Key | None, partition: int, raw: bytes) -> bool:
        fields = self.hashes.setdefault(key, {})
        if order_digits(fields.get(partition, b"")) > order_digits(raw):
            return False
        fields[partition] = raw
        return True
