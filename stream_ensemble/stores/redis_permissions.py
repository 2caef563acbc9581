"""Which of our commands the ACL of a Redis server refuses. None of them is carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from stream_ensemble import config
from stream_ensemble.settings.redis_address import Node, is_cluster
from stream_ensemble.stores.redis_connection import connect
from stream_ensemble.stores.redis_keys import RedisKeys

_NO_SCRIPT = "0" * 40


async def lacking(redis: config.Redis, node: Node | None, keys: RedisKeys) -> list[str]:
    """What our user lacks on a server, as words of ``ACL SETUSER``: ``+hset``, ``~{APP:*``, ``&{APP:*``.

    A server looks at the ACL when a command is queued in a transaction, and the transaction is discarded.

    Raises:
        RedisError, OSError: the server cannot be reached.
    """
    client = connect(redis, node)
    # A queued command is answered by QUEUED, which is not what the library's readers of answers expect.
    client.response_callbacks.clear()
    try:
        begun, _ = await _tried(client, [])
        if isinstance(begun, NoPermissionError):
            return ["+multi", "+discard"]  # without MULTI the commands after it would be carried out
        commands = _commands(keys, in_cluster=is_cluster(redis.url))
        _, *answers, _ = await _tried(client, [words for _, words in commands])
    finally:
        await client.aclose()
    names = [name for name, _ in commands]
    return list(dict.fromkeys(_words(names, answers, keys.pattern())))


def _commands(keys: RedisKeys, *, in_cluster: bool) -> list[tuple[str, Sequence[str]]]:
    """Every command we use by its name in an ACL; ``info`` and ``ping`` are looked at where they are used."""
    key, channel = keys.markers(), keys.changed()
    used: list[tuple[str, Sequence[str]]] = [
        ("hget", ("HGET", key, "0")),
        ("hgetall", ("HGETALL", key)),
        ("hset", ("HSET", key, "0", "")),
        ("hdel", ("HDEL", key, "0")),
        ("evalsha", ("EVALSHA", _NO_SCRIPT, "1", key)),
        ("script|load", ("SCRIPT", "LOAD", "return 0")),
        ("publish", ("PUBLISH", channel, "0")),
        ("subscribe", ("SUBSCRIBE", channel)),
        ("unsubscribe", ("UNSUBSCRIBE", channel)),
    ]
    return [*used, ("asking", ("ASKING",))] if in_cluster else used


async def _tried(client: Redis, commands: Sequence[Sequence[str]]) -> list[object]:
    async with client.pipeline(transaction=False) as pipe:
        for words in (("MULTI",), *commands, ("DISCARD",)):
            pipe.execute_command(*words)
        answers: list[object] = await pipe.execute(raise_on_error=False)
    return answers


def _words(names: Sequence[str], answers: Sequence[object], pattern: str) -> Iterator[str]:
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, NoPermissionError):
            said = str(answer)
            if "access a channel" in said:
                yield f"&{pattern}"
            elif "access a key" in said:
                yield f"~{pattern}"
            else:
                yield f"+{name}"
