"""Redis and the learners' disks, simulated around the product's own stores in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.stores.contributions import Change, Key, Marker, Marking, Order, Snapshot
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.memory_contributions import MemoryContributionStore
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from tests.simulation.effects import LOST
from tests.simulation.loop import Crashed
from tests.simulation.network import Process, here

_TIMEOUT_S = 0.5


class _InOrder(dict[Any, None]):
    """A set that is walked through in the order in which things came."""

    def add(self, one: Any) -> None:
        """As a set."""
        self[one] = None

    def discard(self, one: Any) -> None:
        """As a set."""
        self.pop(one, None)


class RedisServer(MemoryContributionStore):
    """Redis, which tells its listeners in a fixed order."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: Any = _InOrder()


class RedisClient:
    """A ``ContributionStore`` of one process: the server's answers take time, or never come."""

    def __init__(self, process: Process, server: RedisServer) -> None:
        self._process = process
        self._server = server

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``; each field is an effect of its own."""
        stand: list[bool] = []
        for change in changes:
            stand += await self._ask("write redis field", self._server.publish, partition, [change])
        return stand

    async def mark(self, partition: int, marker: Marker, *, after: Order | None = None) -> Marking:
        """See ``ContributionStore``."""
        found: Marking = await self._ask(
            "write redis marker", self._server.mark, partition, marker, after=after
        )
        return found

    async def remove_damaged(self, key: Key | None, partition: int) -> None:
        """See ``ContributionStore``."""
        await self._ask(None, self._server.remove_damaged, key, partition)

    async def cool(self, keys: Sequence[Key], before: int) -> list[int | None]:
        """See ``ContributionStore``."""
        answers: list[int | None] = await self._ask(None, self._server.cool, keys, before)
        return answers

    async def want(self, keys: Sequence[Key]) -> None:
        """See ``ContributionStore``."""
        await self._ask(None, self._server.want, keys)

    async def wanted(self) -> list[Key]:
        """See ``ContributionStore``."""
        found: list[Key] = await self._ask(None, self._server.wanted)
        return found

    async def markers(self) -> Snapshot:
        """See ``ContributionStore``."""
        return await self.read(())

    async def own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        found: Snapshot = await self._ask(None, self._server.own, partition, keys)
        return found

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        found: Snapshot = await self._ask(None, self._server.read, keys)
        return found

    async def changes(self) -> AsyncIterator[int]:
        """See ``ContributionStore``."""
        if not self._server.available or self._process.cut_redis:
            raise ServerUnavailableError("no Redis")
        async for partition in self._server.changes():
            yield partition

    async def close(self) -> None:
        """See ``ContributionStore``."""

    async def _ask(self, effect: str | None, call: Any, *args: Any, **more: Any) -> Any:
        process = self._process
        clock, rng = process.clock, process.rng
        if process.cut_redis or not self._server.available:
            await asyncio.sleep(_TIMEOUT_S)
            raise ServerUnavailableError("Redis does not answer")
        future = process.create_future()

        def arrive() -> None:
            if process.dead and rng.random() < 0.5:
                return
            if not self._server.available:
                return
            act = lambda: _now(call(*args, **more))  # noqa: E731
            result = (
                act() if effect is None else process.effects.do(process, effect, partial(_told, *args), act)
            )
            if result is not LOST and not process.dead:
                clock.at(clock.now + 0.001 + rng.random() * 0.004, process, answer, result)

        def answer(result: Any) -> None:
            if not process.cut_redis and not future.done():
                future.set_result(result)

        clock.at(clock.now + 0.001 + rng.random() * 0.004, None, arrive)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise ServerUnavailableError("Redis does not answer") from None


def _told(partition: int, written: Any) -> str:
    """Which partition's contribution or marker, and its order."""
    one = written[0] if isinstance(written, list) else written
    return f"{partition} {tuple(one.order)}"


def _now(call: Any) -> Any:
    """The result of a call of the store in memory, which never waits."""
    try:
        call.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store in memory waited")


class DiskStore(MemoryLabelStore):
    """A local label store that outlives its process, as RocksDB's files do."""

    def __init__(self) -> None:
        super().__init__()
        self.holder: Process | None = None

    def write(self, changes: Changes, position: Position) -> None:
        """See ``LabelStore``: one effect, all of it or nothing."""
        process = here()
        found = process.effects.do(process, "write store", lambda: position, super().write, changes, position)
        if found is LOST or process.dead:
            raise Crashed

    def clear(self) -> None:
        """See ``LabelStore``."""
        holder = self.holder
        super().clear()
        self.holder = holder

    def close(self) -> None:
        """See ``LabelStore``."""
        self.holder = None


class Disks:
    """The files of all hosts, by directory."""

    def __init__(self) -> None:
        self._stores: dict[tuple[Path, int], DiskStore] = {}

    def open(self, directory: Path) -> DiskStore:
        """As ``open_label_store``: the first that nobody holds."""
        for number in range(4):
            store = self._stores.setdefault((directory, number), DiskStore())
            if store.holder is None or store.holder.dead:
                store.holder = here()
                return store
        raise StateError(f"{directory}: held by others")
