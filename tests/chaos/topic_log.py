"""Every record of an ensemble's topics from their beginning on, read by a plain consumer."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

_STEP_S = 60.0


class Record(NamedTuple):
    """One record; ``appended`` is the broker's time in ms where the topic has it so."""

    topic: str
    partition: int
    offset: int
    appended: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]

    @property
    def place(self) -> tuple[str, int, int]:
        """Where it stands."""
        return self.topic, self.partition, self.offset


class TopicLog:
    """Records read so far, by topic, in the order of offsets within a partition.

    Topics in ``uncommitted`` are read as a careless consumer would, all others read committed.
    """

    def __init__(
        self, bootstrap: Sequence[str], topics: Sequence[str], uncommitted: Collection[str], folder: Path
    ) -> None:
        self._topics, self._uncommitted, self._folder = list(topics), uncommitted, folder
        self._bootstrap = list(bootstrap)
        self.records: dict[str, list[Record]] = {topic: [] for topic in topics}
        #: Offset after the last record, by topic and partition.
        self.ends: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Connect."""
        self._consumers = []
        for level, topics in (
            ("read_uncommitted", [topic for topic in self._topics if topic in self._uncommitted]),
            ("read_committed", [topic for topic in self._topics if topic not in self._uncommitted]),
        ):
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                group_id=None,
                auto_offset_reset="earliest",
                isolation_level=level,
                fetch_max_wait_ms=50,
            )
            await consumer.start()
            self._consumers.append(consumer)
            tps = [tp for topic in topics for tp in await _partitions(consumer, topic)]
            consumer.assign(tps)
            self.ends |= dict.fromkeys(tps, 0)

    async def stop(self) -> None:
        """Disconnect."""
        for consumer in self._consumers:
            await consumer.stop()

    async def catch_up(self) -> None:
        """Read to where the topics end now."""
        for consumer in self._consumers:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            async with asyncio.timeout(_STEP_S):
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    for found in (await consumer.getmany(timeout_ms=200)).values():
                        for each in found:
                            self._keep(each)

    def _keep(self, each: Any) -> None:
        record = Record(
            each.topic, each.partition, each.offset, each.timestamp, each.key, each.value, dict(each.headers)
        )
        self.records[each.topic].append(record)
        self.ends[TopicPartition(each.topic, each.partition)] = each.offset + 1

    def dump(self) -> Path:
        """Write everything down, a file a topic; returns the folder."""
        for topic, records in self.records.items():
            with gzip.open(self._folder / f"{topic}.jsonl.gz", "wt") as file:
                for record in records:
                    file.write(json.dumps(record, default=lambda raw: raw.decode(errors="replace")) + "\n")
        return self._folder


async def _partitions(consumer: Any, topic: str) -> list[TopicPartition]:
    deadline = time.monotonic() + _STEP_S
    while True:
        await consumer._client._wait_on_metadata(topic)
        found = consumer.partitions_for_topic(topic)
        if found:
            return [TopicPartition(topic, p) for p in sorted(found)]
        assert time.monotonic() < deadline, f"no partitions of {topic}"
        await asyncio.sleep(0.2)
