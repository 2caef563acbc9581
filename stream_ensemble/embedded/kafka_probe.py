"""Whether a Kafka answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError


def has_brokers(client_options: Mapping[str, Any], timeout_s: float) -> bool:
    """Asks for the cluster's metadata; False when none comes within ``timeout_s``.

    Args:
        client_options: keyword arguments of an aiokafka client.
    """
    # In a thread of its own, because the caller may stand inside a running event loop.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _ask(client_options, timeout_s)).result()


async def _ask(client_options: Mapping[str, Any], timeout_s: float) -> bool:
    client = AIOKafkaAdminClient(**client_options)
    try:
        async with asyncio.timeout(timeout_s):
            await client.start()
            return bool((await client.describe_cluster())["brokers"])
    except (KafkaError, TimeoutError):
        return False
    finally:
        await client.close()
