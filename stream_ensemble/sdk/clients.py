"""aiokafka's clients as the SDK opens and closes them. Closing is bounded, whatever the broker does."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ProducerClosed

from stream_ensemble import config
from stream_ensemble.kafka.security import client_options

log = logging.getLogger(__name__)

_STOP_WITHIN_S = 5.0


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
    stopping = asyncio.ensure_future(producer.stop())
    if await asyncio.wait({stopping}, timeout=_STOP_WITHIN_S) == ({stopping}, set()):
        stopping.result()
        return
    log.warning("Kafka took nothing for %s s while closing; giving up what it has not taken", _STOP_WITHIN_S)
    # aiokafka flushes for ever. Failing what waits ends the flush, and its own stop goes on; then the sender
    # trips over the batches failed under its hands and would report that to a transaction there is none of.
    sender = producer._sender
    if sender.sender_task is not None:
        sender.sender_task.remove_done_callback(sender._fail_all)
    producer._message_accumulator.fail_all(ProducerClosed())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_WITHIN_S)
    if done:
        stopping.exception()
    else:
        stopping.cancel()
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
    stopping = asyncio.ensure_future(consumer.stop())
    done, _ = await asyncio.wait({stopping}, timeout=_STOP_WITHIN_S)
    if done:
        stopping.result()
        return
    log.warning("Kafka did not let go of a consumer for %s s; cutting it off", _STOP_WITHIN_S)
    stopping.cancel()
