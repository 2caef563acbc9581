"""Transactional ids whose epochs are almost used up, as after years of takeovers.

InitProducerId raises an epoch by one, and thirty thousand of them for each id would take minutes. So each id
is made known to its coordinator once, and then its state is written into the coordinator's own log with a
higher epoch, by a client that Kafka lets write there; the brokers read it at their next start.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from tests.chaos.brokers import Brokers

_LOG = "__transaction_state"
#: Kafka lets this client id alone write to internal topics.
_WRITER = "__admin_client"
#: Fuse workers leave an id at 32,000, brokers at 32,767; a takeover or two are left before.
EPOCHS = {"fuse": 31_991, "learn": 32_763}
_TIMEOUT_MS = 20_000
_UP_S = 60.0


async def near_their_end(brokers: Brokers, transactional_ids: Sequence[str]) -> None:
    """Set the epochs of these ids as ``EPOCHS`` says, by the app in their name; restarts the brokers."""
    ids = {each: await _producer_id(brokers, each) for each in transactional_ids}
    await _write(brokers, ids)
    await asyncio.gather(*(asyncio.to_thread(node.stop) for node in brokers.nodes))
    await asyncio.gather(*(asyncio.to_thread(node.start) for node in brokers.nodes))
    for transactional_id in transactional_ids:
        _, epoch = await _init(brokers, transactional_id)
        assert epoch >= _wanted(transactional_id), f"{transactional_id} stands at epoch {epoch}"


def _wanted(transactional_id: str) -> int:
    return next(epoch for app, epoch in EPOCHS.items() if f"-{app}-" in transactional_id)


async def _producer_id(brokers: Brokers, transactional_id: str) -> int:
    producer_id, _ = await _init(brokers, transactional_id)
    return producer_id


async def _init(brokers: Brokers, transactional_id: str) -> tuple[int, int]:
    client = AIOKafkaClient(bootstrap_servers=brokers.direct)
    await client.bootstrap()
    try:
        deadline = time.monotonic() + _UP_S
        while True:
            try:
                node = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
                answer = await client.send(node, InitProducerIdRequest(transactional_id, _TIMEOUT_MS))
                if answer.error_code == 0:
                    return answer.producer_id, answer.producer_epoch
                problem = f"error {answer.error_code}"
            except Exception as error:  # the coordinator is not up yet
                problem = repr(error)
            assert time.monotonic() < deadline, f"no producer id for {transactional_id}: {problem}"
            await asyncio.sleep(0.1)
    finally:
        await client.close()


async def _write(brokers: Brokers, ids: dict[str, int]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers.direct, client_id=_WRITER, acks="all")
    await producer.start()
    try:
        parts = len(await producer.partitions_for(_LOG))
        for name, producer_id in ids.items():
            await producer.send_and_wait(
                _LOG, _state(producer_id, _wanted(name)), _key(name), partition=abs(_java_hash(name)) % parts
            )
    finally:
        await producer.stop()


def _key(transactional_id: str) -> bytes:
    raw = transactional_id.encode()
    return struct.pack(">hh", 0, len(raw)) + raw


def _state(producer_id: int, epoch: int) -> bytes:
    """TransactionLogValue, version 0: an id at rest, in no partition."""
    now_ms, at_rest, no_partitions = int(time.time() * 1000), 0, -1
    return struct.pack(
        ">hqhibiqq", 0, producer_id, epoch, _TIMEOUT_MS, at_rest, no_partitions, now_ms, now_ms
    )


def _java_hash(text: str) -> int:
    """``String.hashCode`` of ASCII text."""
    value = 0
    for char in text:
        value = (31 * value + ord(char)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
