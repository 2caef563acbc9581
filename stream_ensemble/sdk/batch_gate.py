"""Keeps a change of the consumer group and a batch in hand apart, so that the batch is not answered twice."""

from __future__ import annotations

import asyncio


class BatchGate:
    """Lets in one batch at a time, from taking records to committing them; none while the group changes.

    Args:
        patience_s: how long a change of the group waits for the batch in hand. After that the group goes on,
            and whoever gets the partitions answers the batch again.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._lock = asyncio.Lock()
        self._closed = False

    async def enter(self, within_s: float) -> bool:
        """Begins a batch; False when the gate stayed closed for ``within_s``."""
        try:
            async with asyncio.timeout(within_s):
                return await self._lock.acquire()
        except TimeoutError:
            return False

    def leave(self) -> None:
        """Ends the batch begun by ``enter``."""
        self._lock.release()

    async def close(self) -> None:
        """Waits for the batch in hand, then lets none begin."""
        if not self._closed:
            self._closed = await self.enter(self._patience_s)

    async def open(self) -> None:
        """Lets batches begin again."""
        if self._closed:
            self._closed = False
            self.leave()
