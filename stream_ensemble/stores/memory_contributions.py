"""Contributions in this process's memory: next to Redis in the contract suite, and for tests of its users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_snapshot,
    encode_field,
    encode_marker,
    encode_order,
    order_digits,
)
from stream_ensemble.stores.contributions import Change, Key, Marker, Marking, Order, Snapshot


class MemoryContributionStore:
    """A ``ContributionStore`` that keeps the very bytes Redis would keep.

    Set ``available`` to False and every call fails as when Redis is away; ``flush_all`` empties it.
    """

    def __init__(self) -> None:
        self.hashes: dict[Key | None, dict[int, bytes]] = {}
        self.available = True
        self._listeners: set[asyncio.Queue[int]] = set()

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``."""
        self._answer()
        return [
            self._set(c.key, partition, encode_field(c.key, partition, c.order, c.value)) for c in changes
        ]

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
        return decode_snapshot(
            {key: {p: raw for p, raw in fields.items() if p == partition} for key, fields in hashes.items()}
        )

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        self._answer()
        return decode_snapshot({key: self.hashes.get(key, {}) for key in (*keys, None)})

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
        self.hashes.clear()

    def _answer(self) -> None:
        if not self.available:
            raise ServerUnavailableError("the contribution store in memory is switched off")

    def _set(self, key: Key | None, partition: int, raw: bytes) -> bool:
        fields = self.hashes.setdefault(key, {})
        if order_digits(fields.get(partition, b"")) > order_digits(raw):
            return False
        fields[partition] = raw
        return True
