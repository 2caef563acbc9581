"""Contributions in Redis: ``contributions.py`` says what is promised, ``redis_keys.py`` makes the names."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TypeVar, cast

from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.errors import StateError
from stream_ensemble.stores.contribution_field import (
    decode_field,
    decode_snapshot,
    encode_field,
    encode_marker,
    encode_order,
)
from stream_ensemble.stores.contributions import Change, Key, Marker, Marking, Order, Snapshot
from stream_ensemble.stores.redis_connection import connect, explain
from stream_ensemble.stores.redis_keys import RedisKeys

T = TypeVar("T")

#: Replaces field ARGV[1] by ARGV[2] unless its order (the first 48 bytes, digits) is larger than the new,
#: or, with ARGV[3], is not that. An equal order means equal bytes: writing again is harmless and mends a
#: damaged value.
COMPARE_AND_SET = """
local old = redis.call('HGET', KEYS[1], ARGV[1]) or ''
local order = string.match(string.sub(old, 1, 48), '^%d+$') or ''
if #order ~= 48 then order = '' end
if order > string.sub(ARGV[2], 1, 48) then return 0 end
if ARGV[3] ~= '' and order ~= ARGV[3] then return -1 end
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
#: A silent channel is no error; without a limit of its own the client's time-out for answers would end it.
_LISTEN_S = 5.0


def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


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
        self._redis = connect(server)
        self._keys = keys

    async def publish(self, partition: int, changes: Sequence[Change]) -> list[bool]:
        """See ``ContributionStore``. All fields go out in one round trip."""
        calls = [
            (self._keys.weights(c.key), partition, encode_field(c.key, partition, c.order, c.value), b"")
            for c in changes
        ]
        answers = await self._bounded(self._scripted(COMPARE_AND_SET, calls)) if calls else []
        return [answer == 1 for answer in answers]

    async def mark(self, partition: int, marker: Marker, *, after: Order | None = None) -> Marking:
        """See ``ContributionStore``."""
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
        """See ``ContributionStore``. MULTI makes it one instant: no owner can rewrite between two answers."""
        return await self._bounded(self._read(keys))

    async def changes(self) -> AsyncIterator[int]:
        """See ``ContributionStore``."""
        listener = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await self._bounded(listener.subscribe(self._keys.changed()))
            while True:
                message = await listener.get_message(timeout=_LISTEN_S)
                if message is not None:
                    yield int(message["data"])
        except (RedisError, OSError) as error:
            raise explain(self._server, error) from error
        finally:
            await listener.aclose()  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """See ``ContributionStore``."""
        await self._redis.aclose()

    async def _mark(self, partition: int, raw: bytes, expected: bytes) -> Marking:
        (answer,) = await self._scripted(COMPARE_AND_SET, [(self._keys.markers(), partition, raw, expected)])
        if answer == 1:
            await self._redis.publish(self._keys.changed(), str(partition))
        return _MARKING[answer]

    async def _scripted(self, script: str, calls: Sequence[tuple[str, int, bytes, bytes]]) -> list[int]:
        """One EVALSHA a call, pipelined; a server that does not know the script is taught and asked again.

        Asking all again is safe: the scripts are idempotent.
        """
        for attempt in range(2):
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, field, value, expected in calls:
                    pipe.evalsha(_sha(script), 1, name, field, value, expected)
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
            await self._scripted(COMPARE_AND_DELETE, [(name, partition, raw, b"")])

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

    async def _own(self, partition: int, keys: Sequence[Key]) -> Snapshot:
        async with self._redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hget(self._keys.weights(key), str(partition))
            pipe.hget(self._keys.markers(), str(partition))
            raws = await pipe.execute()
        places = zip((*keys, None), raws, strict=True)
        return decode_snapshot({key: {} if raw is None else {partition: raw} for key, raw in places})

    async def _bounded(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(2 * self._server.timeout_s):
                return await call
        except TimeoutError as error:
            raise explain(self._server, RedisTimeoutError()) from error
        except (RedisError, OSError) as error:
            raise explain(self._server, error) from error
