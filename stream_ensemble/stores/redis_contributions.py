"""Contributions in Redis: ``contributions.py`` says what is promised, ``redis_keys.py`` makes the names."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_snapshot,
    encode_field,
    encode_marker,
)
from stream_ensemble.stores.contributions import Change, Key, Marker, Snapshot
from stream_ensemble.stores.redis_keys import RedisKeys

T = TypeVar("T")

#: Replaces field ARGV[1] by ARGV[2] unless its order (the first 48 bytes, digits) is larger than the new.
#: An equal order means equal bytes, so writing again is harmless and mends a damaged value.
COMPARE_AND_SET = """
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old then
  local order = string.match(string.sub(old, 1, 48), '^%d+$')
  if order and #order == 48 and order > string.sub(ARGV[2], 1, 48) then
    return 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
#: Deletes field ARGV[1] if it still holds ARGV[2].
COMPARE_AND_DELETE = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class RedisContributionStore:
    """A ``ContributionStore`` on Redis.

    Args:
        redis: a client that answers in bytes; this store owns it and closes it.
        keys: the names of one ensemble.
        timeout_s: the longest a call may take, retries included; after it the call raises.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, *, timeout_s: float) -> None:
        self._redis = redis
        self._keys = keys
        self._timeout_s = timeout_s

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``. All fields go out in one round trip."""
        writes = [
            (self._keys.weights(c.key), partition, encode_field(c.key, partition, c.order, c.value))
            for c in changes
        ]
        return await self._bounded(self._compare_and_set(writes)) if writes else []

    async def mark(self, partition: int, marker: Marker) -> bool:
        """See ``ContributionStore``."""
        return await self._bounded(self._mark(partition, encode_marker(partition, marker)))

    async def remove_damaged(self, key: Key | None, partition: int) -> None:
        """See ``ContributionStore``."""
        await self._bounded(self._remove_damaged(key, partition))

    async def markers(self) -> Snapshot:
        """See ``ContributionStore``."""
        return await self.read(())

    async def read(self, keys: Sequence[Key]) -> Snapshot:
        """See ``ContributionStore``. MULTI makes it one instant: no owner can rewrite between two answers."""
        return await self._bounded(self._read(keys))

    async def changes(self) -> AsyncIterator[int]:
        """See ``ContributionStore``."""
        listener = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await self._bounded(listener.subscribe(self._keys.changed()))
            while True:
                message = await listener.get_message(timeout=None)
                if message is not None:
                    yield int(message["data"])
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        finally:
            await listener.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """See ``ContributionStore``."""
        await self._redis.aclose()

    async def _mark(self, partition: int, raw: bytes) -> bool:
        (written,) = await self._compare_and_set([(self._keys.markers(), partition, raw)])
        if written:
            await self._redis.publish(self._keys.changed(), str(partition))
        return written

    async def _compare_and_set(self, writes: Sequence[tuple[str, int, bytes]]) -> list[bool]:
        answers = await self._scripted(COMPARE_AND_SET, writes)
        return [bool(answer) for answer in answers]

    async def _scripted(self, script: str, calls: Sequence[tuple[str, int, bytes]]) -> list[Any]:
        """One EVALSHA a call, pipelined; a server that does not know the script is taught and asked again.

        Asking all again is safe: the scripts are idempotent.
        """
        for attempt in range(2):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, field, value in calls:
                    pipe.evalsha(_sha(script), 1, name, str(field), value)
                answers = await pipe.execute(raise_on_error=False)
            if attempt == 0 and any(isinstance(answer, NoScriptError) for answer in answers):
                await self._redis.script_load(script)
                continue
            break
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _remove_damaged(self, key: Key | None, partition: int) -> None:
        name = self._keys.markers() if key is None else self._keys.weights(key)
        raw = await cast("Awaitable[bytes | None]", self._redis.hget(name, str(partition)))
        if raw is None:
            return
        try:
            decode_field(key, partition, raw)
        except StateError:
            await self._scripted(COMPARE_AND_DELETE, [(name, partition, raw)])

    async def _read(self, keys: Sequence[Key]) -> Snapshot:
        async with self._redis.pipeline(transaction=True) as pipe:
            for key in keys:
                pipe.hgetall(self._keys.weights(key))
            pipe.hgetall(self._keys.markers())
            hashes = await pipe.execute()
        return decode_snapshot(
            {
                key: {int(field): raw for field, raw in fields.items() if field.isdigit()}
                for key, fields in zip((*keys, None), hashes, strict=True)
            }
        )

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await call
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> ServerUnavailableError:
        where = self._redis.connection_pool.connection_kwargs
        address = where.get("path") or f"{where.get('host')}:{where.get('port')}"
        text = str(error) or f"no answer within {self._timeout_s:g} s"
        return ServerUnavailableError(f"Redis at {address}: {text}")
