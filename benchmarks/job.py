"""The job every worker is measured on: 4 members, 3 classes, 4 partitions, JSON in, one JSON out per request.

The input is loaded once per run; every worker reads the same topics from the beginning and writes to output
topics of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from numpy.typing import NDArray

MEMBERS = ("m0", "m1", "m2", "m3")
CLASSES = ("a", "b", "c")
PARTITIONS = 4
WEIGHTS = (0.1, 0.2, 0.3, 0.4)
INPUTS = tuple(f"bench.predictions.{member}" for member in MEMBERS)
#: How far the members' records of one request are apart in the log, in requests.
_DISPLACEMENT = 64


def requests(count: int) -> tuple[list[bytes], NDArray[np.float64]]:
    """Ids (32 hex digits, distinct) and probabilities, count x 4 x 3, four decimals, the same in every
    run."""
    rng = np.random.default_rng(7)
    p = np.round(rng.dirichlet([2.0, 1.2, 0.8], size=(count, len(MEMBERS))), 4)
    p[:, :, 2] = np.round(1.0 - p[:, :, 0] - p[:, :, 1], 4)
    tails = rng.integers(0, 16**12, size=(count, 2))
    ids = [b"%08x%012x%012x" % (i, a, b) for i, (a, b) in enumerate(tails.tolist())]
    return ids, np.abs(p)


def number_of(request_id: bytes) -> int:
    """Which request an id of :func:`requests` names."""
    return int(request_id[:8], 16)


def create_topics(bootstrap: str, names: tuple[str, ...]) -> None:
    """Make topics with the broker's time as record time."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    config = {"message.timestamp.type": "LogAppendTime", "retention.ms": "-1"}
    for made in admin.create_topics([NewTopic(n, PARTITIONS, 1, config=config) for n in names]).values():
        made.result()


def load(bootstrap: str, count: int, progress: Callable[[str], None]) -> None:
    """Publish all predictions, keyed by request id, members displaced against each other."""
    create_topics(bootstrap, INPUTS)
    ids, p = requests(count)
    rng = np.random.default_rng(3)
    orders = [np.argsort(np.arange(count) + rng.uniform(0, _DISPLACEMENT, count)) for _ in MEMBERS]
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 2_000_000,
            "acks": "all",
        }
    )
    failures: list[Any] = []
    at = int(time.time() * 1000)

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failures.append(error)

    for place in range(count):
        for k, member in enumerate(MEMBERS):
            i = int(orders[k][place])
            value = orjson.dumps(
                {
                    "version": 1,
                    "kind": "prediction",
                    "request_id": ids[i].decode(),
                    "member": member,
                    "at": at,
                    "output": p[i, k].tolist(),
                }
            )
            producer.produce(INPUTS[k], value, ids[i], on_delivery=delivered)
        if place % 500 == 0:
            producer.poll(0)
    producer.flush()
    if failures:
        raise RuntimeError(f"{len(failures)} predictions were not loaded, the first: {failures[0]}")
    progress(f"loaded {count * len(MEMBERS):,} predictions")
