"""Loads the input of a benchmark: one record a prediction, or columnar records of many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from benchmarks.job import Job, orders
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.topics import create_topics
from benchmarks.values import columnar_value, id_list, json_values
from stream_ensemble.core.partitioning import murmur2_rows
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT

#: Requests whose records are made at a time; the members take turns at this grain.
_BLOCK = 4_000
_FLUSH_LIMIT_S = 120.0
_HEADERS = [(HEADER_FORMAT, FORMAT_COLUMNS)]


class Loader:
    """A producer that stops at the first record it cannot deliver. Keys decide the partition, as in Java."""

    def __init__(self, bootstrap: str, linger_ms: float = 20) -> None:
        failures: list[Any] = []
        self._failures = failures
        # Not a method: a producer that knows its owner would never be freed.
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "partitioner": "murmur2_random",
                "linger.ms": linger_ms,
                "batch.size": 65_536,
                "queue.buffering.max.messages": 2_000_000,
                "queue.buffering.max.kbytes": 1_000_000,
                "acks": "all",
                "delivery.report.only.error": True,
                "on_delivery": lambda error, _: failures.append(error),
            }
        )
        self.produce = self._producer.produce
        self.poll = self._producer.poll

    def publish(
        self, topic: str, keys: Iterable[bytes], values: Iterable[bytes], appended: int | None = None
    ) -> None:
        """Single records of one topic; waits while too many are on their way.

        Args:
            appended: their time (ms), where the topic takes the producer's.
        """
        produce = self._producer.produce
        when = {} if appended is None else {"timestamp": appended}
        while len(self._producer) > 1_000_000:
            self._producer.poll(0.01)
        for key, value in zip(keys, values, strict=True):
            produce(topic, value, key, **when)
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait until everything is stored.

        Raises:
            RuntimeError: something is not.
        """
        left = self._producer.flush(_FLUSH_LIMIT_S)
        if left or self._failures:
            raise RuntimeError(f"{left or len(self._failures)} records were not stored: {self._failures[:1]}")


def load(bootstrap: str, job: Job, inputs: Sequence[str], say: Callable[[str], None]) -> None:
    """Publish all predictions one by one, keyed by request id, members displaced against each other."""
    create_topics(bootstrap, inputs)
    began = time.monotonic()
    add(bootstrap, job, inputs)
    say(f"loaded {len(job) * len(MEMBERS):,} predictions in {time.monotonic() - began:.0f} s")


def add(bootstrap: str, job: Job, inputs: Sequence[str], *, incomplete: bool = False, times: int = 1) -> None:
    """The same into topics that are there, so many times over.

    Args:
        incomplete: request r lacks member r % K.
    """
    loader = Loader(bootstrap)
    at = int(time.time() * 1000)
    places = orders(len(job))
    for begin in [*range(0, len(job), _BLOCK)] * times:
        for k, member in enumerate(MEMBERS):
            rows = places[k][begin : begin + _BLOCK]
            if incomplete:
                rows = rows[rows % len(MEMBERS) != k]
            ids = job.ids[rows]
            loader.publish(inputs[k], id_list(ids), json_values(ids, member, job.parts[rows, k], at))
    loader.finish()


def load_columnar(
    bootstrap: str, job: Job, inputs: Sequence[str], rows: int, say: Callable[[str], None]
) -> None:
    """Publish all predictions in records of ``rows`` of one member and partition each."""
    create_topics(bootstrap, inputs)
    began = time.monotonic()
    loader = Loader(bootstrap)
    at = int(time.time() * 1000)
    places = _by_partition(job)
    for begin in range(0, max(len(own) for each in places for own in each), rows):
        for k, member in enumerate(MEMBERS):
            for partition, own in enumerate(places[k]):
                batch = own[begin : begin + rows]
                if len(batch):
                    value = columnar_value(job.ids[batch], member, job.parts[batch, k], at)
                    loader.produce(inputs[k], value, partition=partition, headers=_HEADERS)
        loader.poll(0)
    loader.finish()
    say(f"loaded {len(job) * len(MEMBERS):,} predictions in {time.monotonic() - began:.0f} s")


def _by_partition(job: Job) -> list[list[NDArray[np.int64]]]:
    """For each member and partition the requests in the order of answering."""
    partition = (murmur2_rows(job.ids) & np.uint32(0x7FFFFFFF)) % np.uint32(PARTITIONS)
    return [[order[partition[order] == p] for p in range(PARTITIONS)] for order in orders(len(job))]
