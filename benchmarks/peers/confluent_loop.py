"""A loop on bare confluent-kafka: batches in, typed decoding, the cyclic collector off; joined in a dict,
fused a batch at a time. At least once. No deadlines, no check of the input, nothing against duplicates.
"""

from __future__ import annotations

import gc
import os
import time
from typing import Any

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers import given
from benchmarks.peers.epochs import Epoch, Epochs
from benchmarks.task import MEMBERS, WEIGHTS

Positions = dict[tuple[str, int], int]
_K = len(MEMBERS)
_AT_ONCE = 5_000
_WAIT_S = 0.1
_FLUSH_LIMIT_S = 10.0


class Loop:
    """State of the loop: a request's entry in ``pending`` is its K outputs, their count, its partition and
    epoch.
    """

    def __init__(self) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": given.BOOTSTRAP,
                "linger.ms": given.LINGER_MS,
                "batch.size": given.BATCH_BYTES,
                "queue.buffering.max.messages": 500_000,
                "acks": "all",
                "delivery.report.only.error": True,
                # What is not stored must not be committed.
                "on_delivery": lambda error, _: os._exit(1),
            }
        )
        self._pending: dict[bytes, list[Any]] = {}
        self.read: Positions = {}
        self.epochs: Epochs[Positions] = Epochs({})

    def take(self, messages: list[Any]) -> None:
        """Join messages and publish what is complete."""
        pending, index, epoch, read = self._pending, given.INDEX, self.epochs.current, self.read
        done: list[tuple[bytes, list[Any]]] = []
        for message in messages:
            key, partition = message.key(), message.partition()
            answer = given.read(message.value())
            entry = pending.get(key)
            if entry is None:
                entry = pending[key] = [None] * _K + [0, partition, epoch]
                epoch.pending += 1
            read[message.topic(), partition] = message.offset() + 1
            k = index[answer.member]
            if entry[k] is None:
                entry[k] = answer.output
                entry[_K] += 1
                if entry[_K] == _K:
                    del pending[key]
                    done.append((key, entry))
        if done:
            self._publish(done)

    def _publish(self, done: list[tuple[bytes, list[Any]]]) -> None:
        components = np.array([entry[:_K] for _, entry in done])
        outputs = np.einsum("k,nkc->nc", np.array(WEIGHTS), components).tolist()
        produce = self._producer.produce
        for (key, entry), output in zip(done, outputs, strict=True):
            produce(given.OUTPUT, given.record(key.decode(), output, entry[:_K]), key, entry[_K + 1])
            answered: Epoch[Positions] = entry[_K + 2]
            answered.pending -= 1
        self._producer.poll(0)

    def safe(self) -> list[TopicPartition]:
        """Offsets that may be committed now: everything published is acknowledged."""
        if self._producer.flush(_FLUSH_LIMIT_S):
            raise TimeoutError("the broker does not acknowledge")
        safe = self.epochs.turn(dict(self.read))
        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in safe.items()]


def main() -> None:
    """Run until killed."""
    consumer = Consumer(
        {
            "bootstrap.servers": given.BOOTSTRAP,
            "group.id": given.GROUP,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.max.bytes": 1 << 24,
            "queued.min.messages": 50_000,
            # Its default of 1000 ms leaves the loop waiting for data that is there.
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe(given.INPUTS)
    loop = Loop()
    turned = time.monotonic()
    while True:
        loop.take([each for each in consumer.consume(_AT_ONCE, _WAIT_S) if each.error() is None])
        if time.monotonic() - turned > given.COMMIT_S:
            turned = time.monotonic()
            safe = loop.safe()
            if safe:
                consumer.commit(offsets=safe, asynchronous=True)


if __name__ == "__main__":
    gc.disable()
    main()
