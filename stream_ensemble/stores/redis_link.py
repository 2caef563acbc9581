"""Commands to Redis, be it one server or a cluster: one round trip for many, answers in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from stream_ensemble import config
from stream_ensemble.stores.redis_connection import connect


@dataclass(frozen=True, slots=True)
class Call:
    """One command whose keys all stand in one slot.

    Attributes:
        key: the key (or any other of its slot) that decides where it goes.
        words: the command and its arguments.
        script: the source of the script that an EVALSHA runs, for a server that does not know it.
    """

    key: str
    words: tuple[str | int | bytes, ...]
    script: str | None = None


def scripted(script: str, keys: Sequence[str], *arguments: str | int | bytes) -> Call:
    """The call of a script, which must be idempotent: it is asked again where it was not known."""
    return Call(keys[0], ("EVALSHA", _sha(script), len(keys), *keys, *arguments), script)


@cache
def _sha(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


class Link(Protocol):
    """How calls reach Redis. Errors are those of the client library."""

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """The answers in the order of the calls; the first error among them is raised."""
        ...

    async def listener(self) -> Redis:
        """A client to subscribe with; another node at each call where there are several."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class ServerLink:
    """One Redis server.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """

    def __init__(self, server: config.Redis) -> None:
        self._redis = connect(server)

    async def run(self, calls: Sequence[Call]) -> list[Any]:
        """See ``Link``."""
        answers = await send(self._redis, calls)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def listener(self) -> Redis:
        """See ``Link``."""
        return self._redis

    async def close(self) -> None:
        """See ``Link``."""
        await self._redis.aclose()


async def send(redis: Redis, calls: Sequence[Call], *, asking: bool = False) -> list[Any]:
    """Send the calls to one server in one round trip; an error stands among the answers.

    A script that the server does not know is taught and its calls are sent again.

    Args:
        asking: say before each that its slot is on its way to this server.
    """
    answers = await _pipelined(redis, calls, asking)
    unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
    if unknown:
        for script in {calls[place].script or "" for place in unknown}:
            await redis.script_load(script)
        again = await _pipelined(redis, [calls[place] for place in unknown], asking)
        for place, answer in zip(unknown, again, strict=True):
            answers[place] = answer
    return answers


async def _pipelined(redis: Redis, calls: Sequence[Call], asking: bool) -> list[Any]:
    async with redis.pipeline(transaction=False) as pipe:
        for call in calls:
            if asking:
                pipe.execute_command("ASKING")
            pipe.execute_command(*call.words)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
    return answers[1::2] if asking else answers
