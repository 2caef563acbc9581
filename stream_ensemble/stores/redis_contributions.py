"""Contributions in Redis: ``contributions.py`` says what is promised, ``redis_keys.py`` makes the names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.errors import StateError
from stream_ensemble.settings import redis_address
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_snapshot,
    encode_field,
    encode_marker,
    encode_order,
)
from stream_ensemble.stores.contributions import Change, Key, Marker, Marking, Order, Snapshot
from stream_ensemble.stores.redis_cluster import ClusterLink
from stream_ensemble.stores.redis_connection import explain
from stream_ensemble.stores.redis_keys import CLUSTER_SHARDS, RedisKeys
from stream_ensemble.stores.redis_link import Call, Link, ServerLink, scripted
from stream_ensemble.stores.shards import combined

T = TypeVar("T")

#: Replaces field ARGV[1] by ARGV[2] unless its order (the first 48 bytes, digits) is larger than the new,
#: or, with ARGV[3], is neither that nor the new one. An equal order means equal bytes: writing again is
#: harmless and mends a damaged value.
COMPARE_AND_SET = """
local old = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local order = string.match(string.sub(old, 1, 48), '^%d+$') or ''
if #order ~= 48 then order = '' end
local new = string.sub(ARGV[2], 1, 48)
if order > new then return 0 end
if ARGV[3] ~= '' and order ~= ARGV[3] and order ~= new then return -1 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
_MARKING: dict[int, Marking] = {1: "written", 0: "overtaken", -1: "lost"}
#: Deletes field ARGV[1] if it still holds ARGV[2].
COMPARE_AND_DELETE = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""
#: All fields of each hash in one instant: no owner can rewrite between two answers.
READ = """
local hashes = {}
for place, name in ipairs(KEYS) do hashes[place] = redis.call('HGETALL', name) end
return hashes
"""
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
        """See ``ContributionStore``. All fields go out in one round trip, one to each node of a cluster."""
        fields = [(c, encode_field(c.key, partition, c.order, c.value)) for c in changes]
        calls = [
            scripted(COMPARE_AND_SET, [self._keys.weights(c.key)], partition, field, b"")
            for c, field in fields
        ]
        answers = await self._bounded(self._link.run(calls)) if calls else []
        return [answer == 1 for answer in answers]

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
        names = self._marker_names() if key is None else [self._keys.weights(key)]
        raws = await self._link.run([Call(name, ("HGET", name, partition)) for name in names])
        damaged = [
            (name, raw)
            for name, raw in zip(names, raws, strict=True)
            if raw is not None and not _is_sound(key, partition, raw)
        ]
        await self._link.run([scripted(COMPARE_AND_DELETE, [name], partition, raw) for name, raw in damaged])

    async def _read(self, keys: Sequence[Key]) -> Snapshot:
        in_shard: list[list[Key]] = [[] for _ in range(self._keys.shards)]
        for key in keys:
            in_shard[self._keys.shard(key)].append(key)
        calls = [
            scripted(READ, [*map(self._keys.weights, some), self._keys.markers(shard)])
            for shard, some in enumerate(in_shard)
        ]
        snapshots = [
            decode_snapshot({key: _fields(flat) for key, flat in zip((*some, None), hashes, strict=True)})
            for some, hashes in zip(in_shard, await self._link.run(calls), strict=True)
        ]
        return combined(snapshots)

    async def _own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        names = [*map(self._keys.weights, keys), *self._marker_names()]
        raws = await self._link.run([Call(name, ("HGET", name, partition)) for name in names])
        found = [{} if raw is None else {partition: raw} for raw in raws]
        first, *rest = found[len(keys) :]
        fields = zip((*keys, None), (*found[: len(keys)], first), strict=True)
        return combined(
            [decode_snapshot(dict(fields)), *(decode_snapshot({None: marker}) for marker in rest)]
        )

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


def _fields(flat: Sequence[bytes]) -> dict[int, bytes]:
    """What HGETALL gives inside a script: field, value, field, value."""
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {int(field): raw for field, raw in pairs if field.isdigit()}
