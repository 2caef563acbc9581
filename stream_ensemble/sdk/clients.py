"""aiokafka's clients as the SDK opens and closes them. Closing is bounded, whatever the broker does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.consumer.group_coordinator import GroupCoordinator

from stream_ensemble import config
from stream_ensemble.kafka.security import client_options

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 4.0
_CUT_OFF_WITHIN_S = 0.5


def open_producer(kafka: config.Kafka) -> AIOKafkaProducer:
    """An idempotent producer whose records all replicas acknowledge; not started."""
    options = client_options(kafka) | {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": kafka.linger_ms,
        "max_batch_size": kafka.max_batch_bytes,
        "compression_type": None if kafka.compression == "none" else kafka.compression,
    }
    return AIOKafkaProducer(**options)


async def close_producer(producer: AIOKafkaProducer) -> None:
    """Flushes and closes; what a broker that is away does not take in time is given up."""
    if await _ended(producer.flush()) and await _ended(producer.stop()):
        return
    log.warning("Kafka took nothing for %s s while closing; giving up what it has not taken", _STOP_WITHIN_S)
    # aiokafka's own stop waits until everything is delivered. The sender is cancelled while it waits for its
    # requests, and then again, which cancels them too.
    producer._closed = True
    for _ in range(2):
        producer._sender.sender_task.cancel()
        await asyncio.wait({producer._sender.sender_task}, timeout=_CUT_OFF_WITHIN_S)
    await producer.client.close()


def open_consumer(kafka: config.Kafka, group: str | None) -> AIOKafkaConsumer:
    """A consumer that sees committed transactions only and commits nothing by itself; not started."""
    options = client_options(kafka) | {
        "group_id": group,
        "enable_auto_commit": False,
        # Where an offset has expired, reading again is safe and leaving out is not.
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": kafka.fetch_max_wait_ms,
        "max_partition_fetch_bytes": kafka.fetch_max_bytes_per_partition,
        "session_timeout_ms": round(kafka.session_timeout_s * 1000),
        "heartbeat_interval_ms": round(kafka.heartbeat_interval_s * 1000),
        "rebalance_timeout_ms": round(kafka.rebalance_timeout_s * 1000),
    }
    return AIOKafkaConsumer(**options)


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leaves the group and disconnects; commits nothing."""
    if await _ended(consumer.stop()):
        return
    log.warning("Kafka did not let go of a consumer for %s s; cutting it off", _STOP_WITHIN_S)
    # What its stop would have done after the request that does not end.
    if isinstance(consumer._coordinator, GroupCoordinator):
        await consumer._coordinator._stop_heartbeat_task()
        await consumer._coordinator._stop_commit_offsets_refresh_task()
    if consumer._fetcher is not None:
        # It lets the cancellation of its requests through, which is not one of ours.
        await asyncio.gather(consumer._fetcher.close(), return_exceptions=True)
    await consumer._client.close()


async def _ended(ending: Coroutine[Any, Any, None]) -> bool:
    """Whether ``ending`` came to its end in time; else it is cancelled."""
    task = asyncio.ensure_future(ending)
    await asyncio.wait({task}, timeout=_STOP_WITHIN_S)
    if task.done() and not task.cancelled():
        task.result()
        return True
    task.cancel()
    await asyncio.wait({task}, timeout=_CUT_OFF_WITHIN_S)
    return False
