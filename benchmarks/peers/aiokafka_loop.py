"""A loop on bare aiokafka: uvloop, batches in and out, typed decoding, the cyclic collector off; joined in a
dict, fused a batch at a time. At least once. No deadlines, no check of the input, nothing against duplicates.
"""

from __future__ import annotations

import gc
import time
from typing import Any

import numpy as np
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks.peers import given
from benchmarks.peers.epochs import Epoch, Epochs
from benchmarks.task import MEMBERS, WEIGHTS

Positions = dict[TopicPartition, int]
_K = len(MEMBERS)


class Loop:
    """State of the loop: a request's entry in ``pending`` is its K outputs, their count, its epoch."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._pending: dict[bytes, list[Any]] = {}
        self.read: Positions = {}
        self.epochs: Epochs[Positions] = Epochs({})

    async def take(self, tp: TopicPartition, records: list[Any]) -> None:
        """Join the records of one fetch and publish what is complete."""
        pending, index, epoch = self._pending, given.INDEX, self.epochs.current
        done: list[tuple[bytes, list[Any]]] = []
        for record in records:
            answer = given.read(record.value)
            entry = pending.get(record.key)
            if entry is None:
                entry = pending[record.key] = [None] * _K + [0, epoch]
                epoch.pending += 1
            k = index[answer.member]
            if entry[k] is None:
                entry[k] = answer.output
                entry[_K] += 1
                if entry[_K] == _K:
                    del pending[record.key]
                    done.append((record.key, entry))
        self.read[tp] = records[-1].offset + 1
        if done:
            await self._publish(tp.partition, done)

    async def _publish(self, partition: int, done: list[tuple[bytes, list[Any]]]) -> None:
        components = np.array([entry[:_K] for _, entry in done])
        outputs = np.einsum("k,nkc->nc", np.array(WEIGHTS), components).tolist()
        batch = self._producer.create_batch()
        for (key, entry), output in zip(done, outputs, strict=True):
            value = given.record(key.decode(), output, entry[:_K])
            if batch.append(key=key, value=value, timestamp=None) is None:
                await self._send(batch, partition)
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
            answered: Epoch[Positions] = entry[_K + 1]
            answered.pending -= 1
        await self._send(batch, partition)

    async def _send(self, batch: Any, partition: int) -> None:
        batch.close()
        await self._producer.send_batch(batch, given.OUTPUT, partition=partition)


async def main() -> None:
    """Run until killed."""
    producer = AIOKafkaProducer(
        bootstrap_servers=given.BOOTSTRAP,
        linger_ms=given.LINGER_MS,
        max_batch_size=given.BATCH_BYTES,
        acks="all",
    )
    consumer = AIOKafkaConsumer(
        *given.INPUTS,
        bootstrap_servers=given.BOOTSTRAP,
        group_id=given.GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=1 << 24,
        max_partition_fetch_bytes=1 << 20,
    )
    await producer.start()
    await producer.partitions_for(given.OUTPUT)
    await consumer.start()
    loop = Loop(producer)
    turned = time.monotonic()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            await loop.take(tp, records)
        if loop.read and time.monotonic() - turned > given.COMMIT_S:
            turned = time.monotonic()
            await producer.flush()
            safe = loop.epochs.turn(dict(loop.read))
            if safe:
                await consumer.commit(safe)


if __name__ == "__main__":
    gc.disable()
    uvloop.run(main())
