"""Contributions in Redis: ``contributions.py`` says what is promised, ``redis_keys.py`` makes the names,
``redis_scripts.py`` has what must happen in one instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.errors import StateError
from stream_ensemble.settings import redis_address
from stream_ensemble.stores.cold_mark import decode_mark
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_snapshot,
    encode_field,
    encode_marker,
    encode_order,
)
from stream_ensemble.stores.contributions import MARK, Change, Key, Marker, Marking, Order, Snapshot
from stream_ensemble.stores.redis_cluster import ClusterLink
from stream_ensemble.stores.redis_connection import explain
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys, segment_at
from stream_ensemble.stores.redis_link import Call, Link, ServerLink, scripted
from stream_ensemble.stores.redis_scripts import (
    COMPARE_AND_DELETE,
    COMPARE_AND_SET,
    COOL_SEGMENT,
    OWN_SEGMENT,
    READ,
    SET_SEGMENT,
    SETTLE_SEGMENT,
    WANT,
)
from stream_ensemble.stores.shards import combined

T = TypeVar("T")

_MARKING: dict[int, Marking] = {1: "written", 0: "overtaken", -1: "lost"}
#: What the script answers where a segment cannot be marked as cold: its value is needed.
_NEEDED = 2
#: A silent channel is no error; without a limit of its own the client's time-out for answers would end it.
_LISTEN_S = 5.0


class RedisContributionStore:
    """A ``ContributionStore`` on Redis. It connects at its first call, so it can be made before a loop runs.

    Args:
        server: how to reach Redis. A call takes at most twice its time-out, reconnecting included.
        keys: the names of one ensemble.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """

    def __init__(self, server: config.Redis, keys: RedisKeys) -> None:
        self._server = server
        self._link: Link
        if redis_address.is_cluster(server.url):
            self._link, self._keys = ClusterLink(server), keys.spread(CLUSTER_SHARDS)
        else:
            self._link, self._keys = ServerLink(server), keys

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``. All fields go out in one round trip, one to each node of a cluster;
        those that could not be marked as cold in a second one.
        """
        return await self._bounded(self._publish(partition, changes)) if changes else []

    async def cool(self, keys: Sequence[Key], before: int) -> list[int | None]:
        """See ``ContributionStore``."""
        calls = [self._on_segment(COOL_SEGMENT, key, before, self._keys.place(key)) for key in keys]
        answers = await self._bounded(self._link.run(calls)) if calls else []
        return [None if answer < 0 else int(answer) for answer in answers]

    async def want(self, keys: Sequence[Key]) -> None:
        """See ``ContributionStore``."""
        calls = [
            scripted(WANT, [self._keys.cold(shard), self._keys.wanted(shard)], *map(self._keys.place, some))
            for shard, some in enumerate(self._by_shard(keys))
            if some
        ]
        if calls:
            await self._bounded(self._link.run(calls))

    async def wanted(self) -> list[Key]:
        """See ``ContributionStore``."""
        names = [self._keys.wanted(shard) for shard in range(self._keys.shards)]
        answers = await self._bounded(self._link.run([Call(name, ("HGETALL", name)) for name in names]))
        found = (segment_at(place) for places in answers for place in places)
        return [key for key in found if key is not None]

    async def mark(self, partition: int, marker: Marker, *, after: Order | None = None) -> Marking:
        """See ``ContributionStore``. Every shard has a marker."""
        expected = b"" if after is None else encode_order(after)
        return await self._bounded(self._mark(partition, encode_marker(partition, marker), expected))

    async def remove_damaged(self, key: Key | None, partition: int) -> None:
        """See ``ContributionStore``."""
        await self._bounded(self._remove_damaged(key, partition))

    async def markers(self) -> Snapshot:
        """See ``ContributionStore``."""
        return await self.read(())

    async def own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``."""
        return await self._bounded(self._own(partition, keys))

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``. In a cluster it is one instant for each shard and its markers."""
        return await self._bounded(self._read(keys))

    async def changes(self) -> AsyncIterator[int]:
        """See ``ContributionStore``."""
        try:
            redis = await self._bounded(self._link.listener())
            listener = redis.pubsub(ignore_subscribe_messages=True)
            try:
                await self._bounded(listener.subscribe(self._keys.changed()))
                while True:
                    message = await listener.get_message(timeout=_LISTEN_S)
                    if message is not None and message["data"].isdigit():
                        yield int(message["data"])
            finally:
                await listener.aclose()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise explain(self._server, error) from error

    async def close(self) -> None:
        """See ``ContributionStore``."""
        await self._link.close()

    async def _publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        answers = await self._link.run([self._publishing(partition, c, cold=c.cold) for c in changes])
        again = [place for place, answer in enumerate(answers) if answer == _NEEDED]
        if again:
            calls = [self._publishing(partition, changes[place], cold=False) for place in again]
            for place, answer in zip(again, await self._link.run(calls), strict=True):
                answers[place] = answer
        return [answer == 1 for answer in answers]

    def _publishing(self, partition: int, change: Change, *, cold: bool) -> Call:
        key = change.key
        if key.segment is not None and cold:
            order = encode_order(change.order)
            return self._on_segment(SETTLE_SEGMENT, key, partition, order, self._keys.place(key))
        field = encode_field(key, partition, change.order, change.value)
        if key.segment is None:
            return scripted(COMPARE_AND_SET, [self._keys.weights(key)], partition, field, b"")
        return self._on_segment(SET_SEGMENT, key, partition, field, change.at, self._keys.place(key))

    def _on_segment(self, script: str, key: Key, *arguments: str | int | bytes) -> Call:
        shard = self._keys.shard(key)
        names = [self._keys.weights(key), self._keys.cold(shard), self._keys.wanted(shard)]
        return scripted(script, names, *arguments)

    async def _mark(self, partition: int, raw: bytes, expected: bytes) -> Marking:
        answers = await self._link.run(
            [scripted(COMPARE_AND_SET, [name], partition, raw, expected) for name in self._marker_names()]
        )
        if 0 in answers:
            return "overtaken"
        if -1 in answers:
            return "lost"
        await self._link.run([Call(self._keys.markers(), ("PUBLISH", self._keys.changed(), partition))])
        return "written"

    async def _remove_damaged(self, key: Key | None, partition: int) -> None:
        if key is not None and partition == MARK:
            await self._remove_damaged_mark(key)
            return
        names = self._marker_names() if key is None else [self._keys.weights(key)]
        raws = await self._link.run([Call(name, ("HGET", name, partition)) for name in names])
        damaged = [
            (name, raw)
            for name, raw in zip(names, raws, strict=True)
            if raw is not None and not _is_sound(key, partition, raw)
        ]
        await self._link.run([scripted(COMPARE_AND_DELETE, [name], partition, raw) for name, raw in damaged])

    async def _remove_damaged_mark(self, key: Key) -> None:
        name, place = self._keys.cold(self._keys.shard(key)), self._keys.place(key)
        (raw,) = await self._link.run([Call(name, ("HGET", name, place))])
        try:
            decode_mark(key, raw or b"")
        except StateError:
            await self._link.run([scripted(COMPARE_AND_DELETE, [name], place, raw or b"")])

    async def _read(self, keys: Sequence[Key]) -> Snapshot:
        in_shard = self._by_shard(keys)
        calls = []
        for shard, some in enumerate(in_shard):
            names = [*map(self._keys.weights, some), self._keys.markers(shard), self._keys.cold(shard)]
            calls.append(scripted(READ, names, *map(self._keys.place, some)))
        snapshots = [
            _snapshot(some, answer)
            for some, answer in zip(in_shard, await self._link.run(calls), strict=True)
        ]
        return combined(snapshots)

    async def _own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        names = self._marker_names()
        *found, first = await self._link.run(
            [
                *(self._on_segment(OWN_SEGMENT, key, partition, self._keys.place(key)) for key in keys),
                *(Call(name, ("HGET", name, partition)) for name in names[1:]),
                Call(names[0], ("HGET", names[0], partition)),
            ]
        )
        raws, rest = found[: len(keys)], found[len(keys) :]
        fields: dict[Key | None, dict[int, bytes]] = {
            key: _one(partition, raw) for key, (raw, _) in zip(keys, raws, strict=True)
        }
        marks = {key: mark for key, (_, mark) in zip(keys, raws, strict=True) if mark is not None}
        here = decode_snapshot(fields | {None: _one(partition, first)}, marks)
        cold = {key: {partition: left[partition]} for key, left in here.cold.items() if partition in left}
        markers = [decode_snapshot({None: _one(partition, marker)}) for marker in rest]
        return combined([replace(here, cold=cold), *markers])

    def _by_shard(self, keys: Sequence[Key]) -> list[list[Key]]:
        in_shard: list[list[Key]] = [[] for _ in range(self._keys.shards)]
        for key in keys:
            in_shard[self._keys.shard(key)].append(key)
        return in_shard

    def _marker_names(self) -> list[str]:
        return [self._keys.markers(shard) for shard in range(self._keys.shards)]

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(2 * self._server.timeout_s):
                return await call
        except TimeoutError as error:
            raise explain(self._server, RedisTimeoutError()) from error
        except (RedisError, OSError) as error:
            raise explain(self._server, error) from error


def _is_sound(key: Key | None, partition: int, raw: bytes) -> bool:
    try:
        decode_field(key, partition, raw)
    except StateError:
        return False
    return True


def _snapshot(keys: Sequence[Key], answer: Sequence[Any]) -> Snapshot:
    """What the script that reads one shard says of these keys."""
    *hashes, marks = answer
    return decode_snapshot(
        {key: _fields(flat) for key, flat in zip((*keys, None), hashes, strict=True)},
        {key: mark for key, mark in zip(keys, marks, strict=True) if mark is not None},
    )


def _one(partition: int, raw: bytes | None) -> dict[int, bytes]:
    return {} if raw is None else {partition: raw}


def _fields(flat: Sequence[bytes]) -> dict[int, bytes]:
    """What HGETALL gives inside a script: field, value, field, value."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {int(field): raw for field, raw in pairs if field.isdigit()}
