"""Several ensembles of one learn worker: the same answers and labels, for each in another form of record."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.structs import TopicPartition

from stream_ensemble import config
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.chunks import Row
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.learner.ensemble import learned_ensemble
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS
from stream_ensemble.settings_file import dump
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from tests.integration.learner_rows import ALONE, Asked, Label, asked, fused_records, label_records
from tests.integration.learner_world import CLASSES, MEMBERS, ids

PARTITIONS = 2


class Form(NamedTuple):
    """How an ensemble's topics are written: batches of labels in these forms by turns."""

    labels: tuple[bytes, ...]
    fused_columns: bool


FORMS = {
    "single": Form((ALONE,), fused_columns=False),
    "arrays": Form((FORMAT_ARRAYS,), fused_columns=False),
    "columns": Form((FORMAT_COLUMNS,), fused_columns=True),
    "mixed": Form((FORMAT_COLUMNS, ALONE, FORMAT_ARRAYS), fused_columns=True),
}


class Place(NamedTuple):
    """Where a label was first written."""

    partition: int
    offset: int
    row: int


class Dead(NamedTuple):
    """A dead label: why, where it was first written, and what its record says, which is of its form."""

    reason: str
    place: Place
    label: Label


class Topics:
    """The topics of several ensembles with the same settings, one for each form."""

    def __init__(self, bootstrap: str, redis_url: str, app: str) -> None:
        self.settings = config.Settings(
            app=app,
            kafka=config.Kafka(bootstrap_servers=[bootstrap]),
            redis=config.Redis(url=redis_url),
            ensembles={f"{app}.{form}": _ensemble() for form in FORMS},
        )
        self.names = {form: f"{app}.{form}" for form in FORMS}

    @asynccontextmanager
    async def made(self) -> AsyncIterator[Topics]:
        async with admin_client(self.settings.kafka) as client:
            await create_topics(client, wanted_topics(self.settings), self.settings.kafka)
        servers = self.settings.kafka.bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers) as self._producer:
            yield self

    def of(self, form: str) -> config.TopicNames:
        name = self.names[form]
        return config.topic_names(name, self.settings.ensembles[name])

    async def write(self, topic: str, partition: int, record: Row) -> int:
        """Write a record; returns its offset."""
        at = await self._producer.send_and_wait(
            topic, record.value, record.key, partition=partition, headers=record.headers
        )
        return int(at.offset)

    async def fused(self, form: str, some: Sequence[Asked]) -> None:
        for partition, record in fused_records(
            some, columns=FORMS[form].fused_columns, partitions=PARTITIONS
        ):
            await self.write(self.of(form).fused, partition, record)

    async def labels(self, form: str, batch: int, partition: int, rows: Sequence[Label]) -> list[Place]:
        """Write a batch to a partition; returns where each row is."""
        forms = FORMS[form].labels
        records = label_records(rows, forms[batch % len(forms)])
        offsets = [await self.write(self.of(form).feedback, partition, record) for record in records]
        if len(records) == 1:
            return [Place(partition, offsets[0], row) for row in range(len(rows))]
        return [Place(partition, offset, 0) for offset in offsets]

    async def learned(self, form: str) -> Contribution:
        """What stands in Redis of an ensemble."""
        keys = RedisKeys(self.settings.app, self.names[form])
        store = RedisContributionStore(self.settings.redis, keys)
        try:
            fields = (await store.read([Key("class")])).fields[Key("class")]
        finally:
            await store.close()
        return self.algorithm(form).merge([from_bytes(stored.value) for _, stored in sorted(fields.items())])

    def algorithm(self, form: str) -> Algorithm:
        return learned_ensemble(self.settings, self.names[form], group_id="g", data_dir=Path()).algorithm

    async def dead(self, form: str) -> list[ConsumerRecord]:
        async with LogReader(
            {"bootstrap_servers": self.settings.kafka.bootstrap_servers}, committed_only=True
        ) as reader:
            tp = TopicPartition(self.of(form).dead_letter, 0)
            begin, end = await reader.begin_and_end(tp)
            return [record async for columns in reader.read(tp, begin, end) for record in columns.records]


def _ensemble() -> config.Ensemble:
    return config.Ensemble(
        members=list(MEMBERS),
        task=config.Task(classes=CLASSES),
        partitions=PARTITIONS,
        learning=config.Learning(algorithm="ml_poly", half_life=20.0),
        topics=config.Topics(predictions="{ensemble}.predictions", requests=""),
    )


class Scenario:
    """Requests of two partitions and batches of labels for them, each batch written to one partition."""

    def __init__(self) -> None:
        self.asked = asked(ids(80))
        homes = [
            [each.request_id for each in self.asked if partition_of(each.request_id.encode(), 2) == p]
            for p in range(PARTITIONS)
        ]
        zero, one = (
            [Label(name, n % 3, weight=1.0 + n % 2) for n, name in enumerate(home)] for home in homes
        )
        self.bad = [
            Label(zero[0].request_id, 3),
            Label(one[0].request_id, -1),
            Label(zero[1].request_id, 0, weight=-2.0),
            Label(one[1].request_id, 0, revision=2**60),
        ]
        corrected = [row._replace(label=(row.label + 1) % 3, revision=2) for row in zero[2:5]]
        reweighted = [row._replace(weight=3.0, revision=1) for row in zero[5:7]]
        self.batches: list[tuple[int, list[Label]]] = [
            (0, [*zero[:8], self.bad[0], zero[3], *zero[8:]]),
            # Some of partition 0 among those of 1, and a bad one that is misplaced too.
            (1, [*one[:9], *zero[20:24], self.bad[1], *one[9:], self.bad[0]]),
            (0, [self.bad[2], *corrected, *zero[:4], *reweighted, *one[20:26]]),
            (1, [self.bad[3], *one[4:8], *corrected[:1]]),
            # Too old to take the corrections back.
            (0, [row._replace(label=row.label, revision=1) for row in zero[2:5]]),
        ]
        right = {row.request_id: row for row in [*zero, *one]}
        self.winners = list((right | {row.request_id: row for row in [*corrected, *reweighted]}).values())

    @property
    def fates(self) -> int:
        """How often something becomes of a label: once for each row, and once more where it has to move."""
        moves = [
            row
            for partition, rows in self.batches
            for row in rows
            if partition_of(row.request_id.encode(), 2) != partition and row.label >= 0
        ]
        return sum(len(rows) for _, rows in self.batches) + len(moves)

    def dead(self, places: Sequence[Sequence[Place]]) -> list[Dead]:
        """The labels that cannot be used, given where each batch's rows were written."""
        written = [
            (row, place)
            for (_, rows), at in zip(self.batches, places, strict=True)
            for row, place in zip(rows, at, strict=True)
        ]
        return [
            Dead("label-out-of-range" if row.label == 3 else "wrong-field", place, row)
            for row, place in written
            if row in self.bad
        ]


class Worker:
    """A ``faust -A stream_ensemble.learn worker`` process for every ensemble of the settings."""

    def __init__(self, settings: config.Settings, folder: Path) -> None:
        file = folder / "ensemble.toml"
        file.write_text(dump(settings))
        self._port = free_port()
        environment = {
            **os.environ,
            "STREAM_ENSEMBLE_CONFIG": str(file),
            "STREAM_ENSEMBLE__WORKER__DATA_DIR": str(folder / "data"),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "faust", "-A", "stream_ensemble.learn", "worker", "-l", "info"]
        self.process = ChildProcess(
            "learn", [*command, "--web-port", str(self._port)], folder / "log.txt", env=environment
        )

    def fates(self, ensemble: str) -> dict[str, int]:
        """What became of the labels of an ensemble, by word; empty while it does not answer."""
        assert self.process.running, self.process.output()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
                page = str(answer.read().decode())
        except OSError:
            return {}
        found: dict[str, int] = defaultdict(int)
        for line in page.splitlines():
            if line.startswith("stream_ensemble_labels_total{") and f'ensemble="{ensemble}"' in line:
                found[line.partition('fate="')[2].partition('"')[0]] += int(float(line.rpartition(" ")[2]))
        return dict(found)
