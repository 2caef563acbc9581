"""What tests do to the servers they share."""

from __future__ import annotations

import asyncio

import redis
from aiokafka.admin import AIOKafkaAdminClient

_TIMEOUT_S = 30.0


async def remove_topics(bootstrap: str, *, prefix: str) -> None:
    """Deletes the topics whose names start with ``prefix``, so that a long session stays small."""
    async with asyncio.timeout(_TIMEOUT_S):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        await admin.start()
        try:
            topics = [topic for topic in await admin.list_topics() if topic.startswith(prefix)]
            if topics:
                await admin.delete_topics(topics)
        finally:
            await admin.close()


def redis_answers(url: str, timeout_s: float) -> bool:
    """Whether a Redis is there and lets us in."""
    client = redis.Redis.from_url(url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
