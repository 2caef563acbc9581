"""Hears fused records the moment a consumer can."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.job import ID_BYTES, numbers_of
from benchmarks.task import PARTITIONS

_POLL_S = 0.002
_LOOK_S = 0.05


class Heard(NamedTuple):
    """N fused records: the request each answers, when it was readable and when appended (s). Shapes: N."""

    requests: NDArray[np.int64]
    readable: NDArray[np.float64]
    appended: NDArray[np.float64]


def listener(bootstrap: str, output: str) -> Consumer:
    """A consumer at the beginning of a topic that holds nothing yet."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench-listen", "enable.auto.commit": False}
    )
    consumer.assign([TopicPartition(output, partition, 0) for partition in range(PARTITIONS)])
    return consumer


def listen(consumer: Consumer, look: Callable[[float], bool], most: int | None = None) -> Heard:
    """Take every record as soon as it is there, until ``look``, asked every 50 ms with the time, says no, or
    until ``most`` have come.
    """
    keys: list[bytes] = []
    readable: list[float] = []
    appended: list[int] = []
    next_look = 0.0
    gc.collect()
    gc.disable()
    try:
        while most is None or len(keys) < most:
            message = consumer.poll(_POLL_S)
            now = time.time()
            if message is not None and message.error() is None:
                keys.append(message.key())
                readable.append(now)
                appended.append(message.timestamp()[1])
            if now >= next_look:
                next_look = now + _LOOK_S
                if not look(now):
                    break
    finally:
        gc.enable()
    ids = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), ID_BYTES)
    return Heard(numbers_of(ids), np.array(readable), np.array(appended) / 1000)
