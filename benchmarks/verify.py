"""Reads every output of a run back and checks it against the input."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from numpy.typing import NDArray

from benchmarks.contestants import Run
from benchmarks.job import Job, numbers_of
from benchmarks.measure import Window
from benchmarks.reading import Fused, fused_in
from benchmarks.task import PARTITIONS, WEIGHTS

_TOLERANCE = 1e-9
_AT_ONCE = 10_000
#: ``consume`` waits this long for a full answer, which does not come at the end.
_PATIENCE_S = 0.2
_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Verified:
    """What stands in an output topic.

    Attributes:
        distinct: requests answered; ``in_window``: records whose offsets lie in a window.
        duplicates, wrong, incomplete, missing: what is wrong; missing only where all were to be answered.
        seen: how often each request was answered, R.
    """

    distinct: int = 0
    in_window: int = 0
    duplicates: int = 0
    wrong: int = 0
    incomplete: int = 0
    missing: int = 0
    seen: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))

    @property
    def faults(self) -> int:
        """Duplicates, wrong, incomplete and missing records."""
        return self.duplicates + self.wrong + self.incomplete + self.missing

    def as_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {name: value for name, value in asdict(self).items() if name != "seen"}


def verify(
    run: Run, job: Job, window: Window | None = None, *, complete: bool, exact: bool = True
) -> Verified:
    """Check every record: id known and seen once, components as published, output their weighted mean, label
    the class with the largest.

    Args:
        window: whose records are counted, if any.
        complete: every request was to be answered.
        exact: the members published float64; else float32.
    """
    found = Verified(seen=np.zeros(len(job), np.int32))
    for partition, messages in read_back(run.servers.bootstrap, run.output):
        for fused in fused_in(messages):
            _check(fused, job, exact, found)
            if window is not None:
                begin, end = window.begin.ends[partition], window.end.ends[partition]
                found.in_window += int(((fused.offsets >= begin) & (fused.offsets < end)).sum())
    found.distinct = int((found.seen > 0).sum())
    found.duplicates = int((found.seen[found.seen > 1] - 1).sum())
    found.missing = len(job) - found.distinct if complete else 0
    return found


def read_back(bootstrap: str, topic: str) -> Iterator[tuple[int, list[Any]]]:
    """All records of a topic, some of one partition at a time: partition and messages."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "bench-verify",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    ended: set[int] = set()
    heard = time.monotonic()
    while len(ended) < PARTITIONS:
        messages: dict[int, list[Any]] = {}
        for message in consumer.consume(_AT_ONCE, _PATIENCE_S):
            heard = time.monotonic()
            if message.error() is None:
                messages.setdefault(message.partition(), []).append(message)
            else:
                ended.add(message.partition())
        yield from messages.items()
        if time.monotonic() - heard > _TIMEOUT_S:
            raise TimeoutError(f"{topic} cannot be read back")
    consumer.close()


def _check(fused: Fused, job: Job, exact: bool, found: Verified) -> None:
    rows = numbers_of(fused.ids)
    known = (rows >= 0) & (rows < len(job))
    known &= (job.ids[np.where(known, rows, 0)] == fused.ids).all(axis=1)
    found.wrong += int((~known).sum())
    np.add.at(found.seen, rows[known], 1)
    found.incomplete += int((known & ~fused.complete).sum())
    good = known & fused.complete
    found.wrong += int((~_right(fused.take(good), job.p(rows[good]), exact)).sum())


def _right(fused: Fused, p: NDArray[np.float64], exact: bool) -> NDArray[np.bool_]:
    """Which of N complete records say what follows from ``p`` (N x K x C)."""
    if not exact:
        p = p.astype(np.float32).astype(np.float64)
    output = np.array(WEIGHTS) @ p
    ordered = np.sort(output, axis=1)
    tie = ordered[:, -1] - ordered[:, -2] < _TOLERANCE
    right: NDArray[np.bool_] = (
        (fused.components == p).all(axis=(1, 2))
        & (np.abs(fused.outputs - output).max(axis=1) <= _TOLERANCE)
        & ((fused.labels == output.argmax(axis=1)) | tie)
    )
    return right
