"""Reads every output of a run back and checks it against the input."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.job import MEMBERS, PARTITIONS, number_of

_TOLERANCE = 1e-9


@dataclass(slots=True)
class Verified:
    """What stands in the output topic: distinct requests, and what is wrong with them."""

    distinct: int = 0
    duplicates: int = 0
    wrong: int = 0
    incomplete: int = 0

    def faults(self) -> int:
        """Duplicates, wrong and incomplete records."""
        return self.duplicates + self.wrong + self.incomplete

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def verify(
    bootstrap: str, output: str, ids: list[bytes], p: NDArray[np.float64], weights: tuple[float, ...]
) -> Verified:
    """Check every record: id known and seen once, components as published, output their weighted mean."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-verify",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(output, part, 0) for part in range(PARTITIONS)])
    seen = np.zeros(len(ids), np.int32)
    found = Verified()
    at_end: set[int] = set()
    while len(at_end) < PARTITIONS:
        for message in consumer.consume(10_000, 10.0):
            if message.error():
                at_end.add(message.partition())
                continue
            _check(orjson.loads(message.value()), message.key(), ids, p, np.array(weights), seen, found)
    consumer.close()
    found.distinct = int((seen > 0).sum())
    found.duplicates = int((seen[seen > 1] - 1).sum())
    return found


def _check(
    record: dict[str, Any],
    key: bytes,
    ids: list[bytes],
    p: NDArray[np.float64],
    weights: NDArray[np.float64],
    seen: NDArray[np.int32],
    found: Verified,
) -> None:
    i = number_of(key)
    if i >= len(ids) or ids[i] != key or record["request_id"].encode() != key:
        found.wrong += 1
        return
    seen[i] += 1
    if record["status"] != "complete":
        found.incomplete += 1
        return
    components = np.array([record["components"][member] for member in MEMBERS])
    if (components != p[i]).any() or np.abs(weights @ components - record["output"]).max() > _TOLERANCE:
        found.wrong += 1
