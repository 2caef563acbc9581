"""Is the topic there, with the partitions the settings say? Asked once, before a client starts."""

from __future__ import annotations

import asyncio
import logging

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, KafkaError

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError, TopologyError
from stream_ensemble.kafka.reachability import explain_unreachable
from stream_ensemble.kafka.security import client_options
from stream_ensemble.sdk.errors import answered_in_time

log = logging.getLogger(__name__)

_APPEARS_WITHIN_S = 5.0
_RETRY_S = 0.1
_EXPLAINED_WITHIN_S = 5.0


async def require_topic(kafka: config.Kafka, topic: str, partitions: int) -> None:
    """Returns when ``topic`` has ``partitions`` partitions.

    The whole cluster's topics are asked for, because asking for one by name makes it on brokers that create
    topics on first use. A topic made a moment ago is waited for.

    Raises:
        ServerUnavailableError: no broker answers.
        TopologyError: the topic is missing or has another number of partitions.
    """
    try:
        async with answered_in_time(kafka, topic):
            found = await _partitions(kafka, topic)
    except ServerUnavailableError as error:
        raise await explain_unreachable(kafka, min(_EXPLAINED_WITHIN_S, kafka.request_timeout_s)) from error
    if not found:
        raise TopologyError(f"topic {topic} does not exist; `stream-ensemble topics create` makes it")
    if found != partitions:
        raise TopologyError(f"topic {topic} has {found} partitions, the settings say {partitions}")


async def _partitions(kafka: config.Kafka, topic: str) -> int:
    client = AIOKafkaClient(**client_options(kafka))
    await client.bootstrap()
    try:
        found = None
        for _ in range(round(_APPEARS_WITHIN_S / _RETRY_S)):
            found = await _counted(client, topic)
            if found:
                break
            await asyncio.sleep(_RETRY_S)
    finally:
        await client.close()
    if found is None:
        raise KafkaConnectionError("no broker told its topics")
    return found


async def _counted(client: AIOKafkaClient, topic: str) -> int | None:
    """Partitions of ``topic``, 0 where there is none; None when no broker answers, as while one starts."""
    try:
        cluster = await client.fetch_all_metadata()
    except KafkaError as error:
        log.info("asking for topics again: %s", error)
        return None
    return len(cluster.partitions_for_topic(topic) or ())
