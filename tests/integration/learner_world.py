"""A small ensemble for the learner's tests.

Fused records and labels are written, partitions owned and abandoned, and what was learned is recomputed from
the topics, from scratch.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from stream_ensemble import config
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.fetching import adopt
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble
from stream_ensemble.learner.partition import LearnerPartition
from stream_ensemble.stores.contributions import ContributionStore, Key
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.stores.rocks_labels import open_label_store

MEMBERS = ("a", "b", "c")
CLASSES = ["x", "y", "z"]
LIMIT_S = 60.0
BLOCKS = [
    credit_block.encode("ml_poly", 0, n, MEMBERS, np.array(values))
    for n, values in ((0, (0.0, 0.0, 0.0)), (7, (1.0, 0.5, 0.0)), (40, (0.25, 1.0, 0.75)))
]


class World:
    """One ensemble on real servers."""

    def __init__(
        self,
        bootstrap: str,
        redis_url: str,
        name: str,
        data_dir: Path,
        *,
        partitions: int = 1,
        **learning: Any,
    ) -> None:
        self.name = name
        self.data_dir = data_dir
        self.partitions = partitions
        self.settings = config.Settings(
            app=name,
            kafka=config.Kafka(bootstrap_servers=[bootstrap]),
            redis=config.Redis(url=redis_url),
            ensembles={
                name: config.Ensemble(
                    members=list(MEMBERS),
                    task=config.Task(classes=CLASSES),
                    partitions=partitions,
                    learning=config.Learning(**{"algorithm": "ml_poly", "half_life": 20.0, **learning}),
                )
            },
        )
        self.topics = config.topic_names(name, self.settings.ensembles[name])
        self.random = random.Random(7)

    async def __aenter__(self) -> World:
        async with admin_client(self.settings.kafka) as client:
            await create_topics(client, wanted_topics(self.settings), self.settings.kafka)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap_servers, max_request_size=2 << 20
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()

    # --- what others write --------------------------------------------------------------------------

    async def fused(self, *request_ids: str, carries: bool = True, **more: Any) -> None:
        """A fused record of each request, with random outputs and one of a few credit blocks."""
        for request_id in request_ids:
            digest, block = self.random.choice(BLOCKS)
            credit: dict[str, Any] = {"everywhere": digest}
            if carries:
                credit["blocks"] = {digest: msgspec.to_builtins(block)}
            awake = self.random.sample(MEMBERS, self.random.randint(1, len(MEMBERS)))
            record = {
                "version": 1,
                "kind": "fused",
                "request_id": request_id,
                "status": "complete",
                "at": 5,
                "components": {member: self._output() for member in awake},
                "sources": {},
                "weights_version": {"generation": 0, "n": 0, "digest": "d"},
                "credit": credit,
                "config": "c",
            }
            await self.write(self.topics.fused, request_id, json.dumps(record | more).encode())

    async def label(self, request_id: str, label: str | int, **more: Any) -> None:
        """A label as any client would publish it."""
        record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": label} | more
        await self.write(self.topics.feedback, request_id, json.dumps(record).encode())

    async def write(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        *,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Any record, on its canonical partition unless told otherwise."""
        raw = None if key is None else key.encode()
        place = partition if partition is not None or raw is None else partition_of(raw, self.partitions)
        await self._producer.send_and_wait(topic, value, raw, partition=place, headers=list(headers))

    def _output(self) -> list[float]:
        counts = [self.random.randint(1, 50) for _ in CLASSES]
        return [count / sum(counts) for count in counts]

    # --- owners -------------------------------------------------------------------------------------

    def ensemble(self, host: str = "host") -> LearnedEnsemble:
        """What an owner on ``host`` knows: hosts have disks of their own."""
        return learned_ensemble(
            self.settings, self.name, group_id=f"{self.name}-learn", data_dir=self.data_dir / host
        )

    def with_redis(self, url: str) -> config.Settings:
        """The settings, with Redis elsewhere."""
        return msgspec.structs.replace(self.settings, redis=config.Redis(url=url))

    def redis(self) -> RedisContributionStore:
        return RedisContributionStore(self.settings.redis, RedisKeys(self.name, self.name))

    @asynccontextmanager
    async def owner(
        self, partition: int = 0, *, host: str = "host", contributions: ContributionStore | None = None
    ) -> AsyncIterator[Owner]:
        """The owner of a partition, ready; it is abandoned without a flush unless the test closed it."""
        owner = Owner(self, partition, host, contributions or self.redis())
        try:
            await owner.start()
            yield owner
        finally:
            await owner.abandon()

    # --- what is seen -------------------------------------------------------------------------------

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """All committed records of a topic."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        (count,) = [wanted.partitions for wanted in wanted_topics(self.settings) if wanted.name == topic]
        tps = [TopicPartition(topic, p) for p in range(count)]
        consumer.assign(tps)
        await consumer.start()
        found: list[ConsumerRecord] = []
        try:
            ends = await consumer.end_offsets(tps)
            async with asyncio.timeout(LIMIT_S):
                while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                    polled = await consumer.getmany(timeout_ms=50)
                    found += [record for records in polled.values() for record in records]
        finally:
            await consumer.stop()
        return found

    async def dead(self) -> list[tuple[str, ConsumerRecord]]:
        """Reason and record of everything in dead-letter."""
        records = await self.read(self.topics.dead_letter)
        return [(json.loads(dict(r.headers)["stream-ensemble-dead-letter"])["reason"], r) for r in records]

    async def in_redis(self) -> list[Contribution]:
        """The contributions that stand in Redis, in order of the partitions."""
        store = self.redis()
        try:
            snapshot = await store.read([Key("class")])
        finally:
            await store.close()
        assert not snapshot.damaged
        return [from_bytes(stored.value) for _, stored in sorted(snapshot.fields[Key("class")].items())]

    async def check_against_topics(self, *, ignore: Callable[[Any], bool] = lambda label: False) -> int:
        """Redis holds what a recomputation from scratch gives; returns how many labels that is.

        Args:
            ignore: labels that count nothing.
        """
        expected, scale = await self._recomputed(ignore)
        whole = self.ensemble().algorithm.merge(await self.in_redis())
        assert whole.n == expected.n
        assert whole.clock == expected.clock
        for name, array in expected.sums.items():
            assert np.abs(whole.sums[name] - array).max() <= 1e-12 * max(1.0, scale), name
        return whole.n

    async def _recomputed(self, ignore: Callable[[Any], bool]) -> tuple[Contribution, float]:
        fused = {r.key.decode(): json.loads(r.value) for r in await self.read(self.topics.fused)}
        winners: dict[str, tuple[Any, dict[str, Any]]] = {}
        for record in await self.read(self.topics.feedback):
            label = json.loads(record.value)
            if label.get("kind") == "control":
                continue
            place = (label.get("revision", 0), record.timestamp, record.offset)
            request_id = label["request_id"]
            if ignore(label["label"]):
                continue
            if request_id in fused and (request_id not in winners or place > winners[request_id][0]):
                winners[request_id] = place, label
        algorithm, part, scale = self.ensemble().algorithm, Contribution(MEMBERS), 0.0
        for request_id, (_, label) in winners.items():
            alone = Contribution(MEMBERS)
            for each in (part, alone):
                self._learn_one(each, fused[request_id], label)
            scale += 2 * float(sum(np.abs(array).sum() for array in alone.sums.values()))
        part.n = len(winners)
        assert algorithm.name == "ml_poly"
        return part, scale

    def _learn_one(self, part: Contribution, fused: dict[str, Any], label: dict[str, Any]) -> None:
        block = dict(BLOCKS)[fused["credit"]["everywhere"]]
        outputs, awake = np.zeros((1, 3, 3)), np.zeros((1, 3), np.bool_)
        for k, member in enumerate(MEMBERS):
            if member in fused["components"]:
                outputs[0, k], awake[0, k] = fused["components"][member], True
        name = label["label"] if isinstance(label["label"], int) else CLASSES.index(label["label"])
        labelled = Labelled(
            outputs, awake, np.array([name]), np.array([label.get("weight", 1.0)]), float(block.n)
        )
        values = credit_block.decode(fused["credit"]["everywhere"], block)
        self.ensemble().algorithm.learn(part, values, labelled)


class Owner:
    """Drives one ``LearnerPartition`` as the app does: reads from its positions, hands chunks over."""

    def __init__(self, world: World, partition: int, host: str, contributions: ContributionStore) -> None:
        ensemble = world.ensemble(host)
        self._world = world
        self._tps = ensemble.inputs_of(partition)
        self._contributions = contributions
        self.store = open_label_store(ensemble.store_directory(partition))
        self.partition = LearnerPartition(ensemble, partition, self.store, contributions)
        self._consumer = AIOKafkaConsumer(
            **ensemble.options, isolation_level="read_committed", fetch_max_wait_ms=20
        )
        self._open = True

    async def start(self) -> None:
        positions = await self.partition.prepare()
        await self._consumer.start()
        # aiokafka cannot stop a consumer whose tasks have not begun.
        await asyncio.sleep(0)
        adopt(self._consumer)
        self._consumer.assign(self._tps)
        for tp, offset in positions.items():
            self._consumer.seek(tp, offset)

    async def catch_up(self, *, flush: bool = True) -> None:
        """Take in everything there is now."""
        ends = await self._consumer.end_offsets(self._tps)
        async with asyncio.timeout(LIMIT_S):
            while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
                for chunks in (await self._consumer.getmany(timeout_ms=50)).values():
                    for chunk in chunks:
                        await self.partition.on_chunk(chunk)
        if flush:
            await self.partition.flush()
            await self.partition.publisher.publish()

    async def read_only(self, topic: str) -> None:
        """Take in what there is of one of the two topics."""
        (tp,) = [tp for tp in self._tps if tp.topic == topic]
        (end,) = (await self._consumer.end_offsets([tp])).values()
        async with asyncio.timeout(LIMIT_S):
            while await self._consumer.position(tp) < end:
                for chunk in (await self._consumer.getmany(tp, timeout_ms=50)).get(tp, ()):
                    await self.partition.on_chunk(chunk)

    async def close(self) -> None:
        """Leave in order."""
        self._open = False
        await self._consumer.stop()
        try:
            await self.partition.close()
        finally:
            await self._contributions.close()

    async def abandon(self) -> None:
        """Go without a word, as after a crash."""
        if not self._open:
            return
        self._open = False
        await self._consumer.stop()
        await self.partition.close(flush=False)
        await self._contributions.close()


def ids(count: int, prefix: str = "r") -> list[str]:
    return [f"{prefix}{n}-{uuid.uuid4().hex[:8]}" for n in range(count)]


def names(request_ids: Iterable[str]) -> list[tuple[str, str]]:
    """Each request with a class, in turn."""
    return [(request_id, CLASSES[n % 3]) for n, request_id in enumerate(request_ids)]
