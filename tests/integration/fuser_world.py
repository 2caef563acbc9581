"""A small ensemble with real fuse workers; its topics are written as any client would, then read back."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from stream_ensemble import config
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.messages import HEADER_DEAD_LETTER
from stream_ensemble.settings_file import dump

MEMBERS = ("a", "b", "c")
CLASSES = ["x", "y", "z"]
PARTITIONS = 4
OUTPUT = [0.5, 0.3, 0.2]
LIMIT_S = 60.0
#: Before anything is learned answers are plain means, which tests can tell beforehand.
MEANS = config.Learning(algorithm="ml_poly")


class Worker:
    """A ``faust -A stream_ensemble.fuse worker`` process, or one of the learn app."""

    def __init__(
        self,
        settings: config.Settings,
        folder: Path,
        app: str = "fuse",
        launcher: Sequence[str] = ("-m", "faust"),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "ensemble.toml"
        file.write_text(dump(settings))
        self.port = free_port()
        environment = {
            **os.environ,
            "STREAM_ENSEMBLE_CONFIG": str(file),
            "STREAM_ENSEMBLE__WORKER__DATA_DIR": str(folder / "data"),
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, *launcher, "-A", f"stream_ensemble.{app}", "worker", "-l", "info"]
        self.process = ChildProcess(
            app, [*command, "--web-port", str(self.port)], folder / "log.txt", env=environment
        )

    def get(self, page: str) -> str:
        """A page of its web port; what an unhealthy worker answers too."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())

    def owned(self) -> int:
        """How many partitions it has taken over."""
        assert self.process.running, self.process.output()
        try:
            return len(json.loads(self.get("/health"))["partitions"])
        except (OSError, ValueError):
            return 0

    def metric(self, name: str, page: str | None = None, **labels: str) -> float:
        """Sum of a metric's samples that carry these labels, of this page or of a new one."""
        total = 0.0
        for line in (page or self.get("/metrics")).splitlines():
            if line.startswith(name) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total


class World:
    """One ensemble on a real broker; ``beside`` names further ones of the same workers (see :meth:`of`)."""

    def __init__(
        self,
        bootstrap: str,
        redis_url: str,
        name: str,
        folder: Path,
        *,
        beside: Mapping[str, config.Ensemble] | None = None,
        fetch_bytes: int = 4 << 20,
        kafka: Mapping[str, Any] | None = None,
        **ensemble: Any,
    ) -> None:
        self.folder = folder
        #: As a careless consumer would, unless told otherwise.
        self.isolation_level = "read_uncommitted"
        self.settings = config.Settings(
            app=name,
            kafka=config.Kafka(
                bootstrap_servers=[bootstrap],
                session_timeout_s=6.0,
                heartbeat_interval_s=0.5,
                fetch_max_bytes_per_partition=fetch_bytes,
                **(kafka or {}),
            ),
            redis=config.Redis(url=redis_url),
            ensembles={
                name: config.Ensemble(
                    members=list(MEMBERS),
                    partitions=PARTITIONS,
                    **{
                        "task": config.Task(classes=CLASSES),
                        "deadline_ms": 1000,
                        "learning": MEANS,
                        **ensemble,
                    },
                )
            }
            | dict(beside or {}),
        )
        self.topics = config.topic_names(name, self.settings.ensembles[name])
        self._workers: list[Worker] = []

    async def __aenter__(self) -> World:
        async with admin_client(self.settings.kafka) as client:
            await create_topics(client, wanted_topics(self.settings), self.settings.kafka)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka.bootstrap_servers, max_request_size=2 << 20, linger_ms=2
        )
        await self._producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for worker in self._workers:
            worker.process.kill()
        await self._producer.stop()

    def of(self, name: str) -> World:
        """The same world seen from another of its ensembles."""
        other = copy.copy(self)
        other.topics = config.topic_names(name, self.settings.ensembles[name])
        return other

    def start(
        self,
        app: str = "fuse",
        *,
        redis_url: str | None = None,
        delivery: str | None = None,
        deployment: str | None = None,
    ) -> Worker:
        """Start a worker of one of the two apps; :meth:`owning` waits for it."""
        settings = self.settings
        if deployment is not None:
            settings = msgspec.structs.replace(settings, app=deployment)
        if delivery is not None:
            kafka = msgspec.structs.replace(settings.kafka, delivery=delivery)
            settings = msgspec.structs.replace(settings, kafka=kafka)
        if redis_url is not None:
            settings = msgspec.structs.replace(settings, redis=config.Redis(url=redis_url))
        worker = Worker(settings, self.folder / f"worker{len(self._workers)}", app)
        self._workers.append(worker)
        return worker

    async def owning(self, *workers: Worker, partitions: int = PARTITIONS) -> None:
        """Until these workers together own so many partitions."""
        await until(
            lambda: sum(worker.owned() for worker in workers) == partitions, "workers own the partitions"
        )

    # --- in -----------------------------------------------------------------------------------------

    def prediction(self, request_id: str, member: str, output: Any = OUTPUT, **more: Any) -> bytes:
        """A prediction's value."""
        record = {"version": 1, "kind": "prediction", "request_id": request_id, "member": member}
        return json.dumps(record | {"at": int(time.time() * 1000), "output": output} | more).encode()

    async def predict(self, request_ids: Iterable[str], members: Iterable[str] = MEMBERS) -> None:
        """Every member's prediction of every request, on canonical partitions."""
        sent = []
        for request_id in request_ids:
            for member in members:
                sent.append(await self.put(member, request_id, self.prediction(request_id, member)))
        await asyncio.gather(*sent)

    async def put(
        self,
        member: str,
        key: str | None,
        value: bytes | None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Any:
        """Any record on a member's topic; the future of its delivery."""
        topic = self.topics.predictions[MEMBERS.index(member)]
        return await self.write(topic, key, value, partition, timestamp_ms)

    async def write(
        self,
        topic: str,
        key: str | None,
        value: bytes | None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> Any:
        """Any record on any topic, canonical unless told otherwise; the future of its delivery."""
        raw = None if key is None else key.encode()
        if partition is None:
            partition = partition_of(raw or b"", PARTITIONS)
        return await self._producer.send(topic, value, raw, partition=partition, timestamp_ms=timestamp_ms)

    async def ask(self, request_id: str, **more: Any) -> None:
        """A requests record."""
        record = {"version": 1, "kind": "request", "request_id": request_id} | more
        key = request_id.encode()
        await self._producer.send_and_wait(
            self.topics.requests, json.dumps(record).encode(), key, partition=partition_of(key, PARTITIONS)
        )

    # --- out ----------------------------------------------------------------------------------------

    async def fused(self, count: int) -> dict[str, dict[str, Any]]:
        """All fused records by request id, once there are ``count`` requests; each may be there once only."""
        async with self._reading(self.topics.fused) as records:
            found: dict[str, dict[str, Any]] = {}
            async for record in records:
                value = json.loads(record.value)
                assert value["request_id"] not in found, f"answered twice: {value['request_id']}"
                assert record.key == value["request_id"].encode()
                assert record.partition == partition_of(record.key, PARTITIONS)
                found[value["request_id"]] = value
                if len(found) == count:
                    break
        return found

    async def fused_of(self, request_ids: Iterable[str]) -> dict[str, ConsumerRecord]:
        """The fused records of these requests, once all are there."""
        wanted = set(request_ids)
        async with self._reading(self.topics.fused) as records:
            found: dict[str, ConsumerRecord] = {}
            async for record in records:
                request_id = record.key.decode()
                if request_id in wanted:
                    assert request_id not in found, f"answered twice: {request_id}"
                    found[request_id] = record
                    if len(found) == len(wanted):
                        break
        return found

    async def dead_letters(self, count: int) -> list[tuple[ConsumerRecord, dict[str, Any]]]:
        """The first ``count`` dead-letter records with their header."""
        async with self._reading(self.topics.dead_letter) as records:
            found = []
            async for record in records:
                found.append((record, json.loads(dict(record.headers)[HEADER_DEAD_LETTER])))
                if len(found) == count:
                    break
        return found

    async def late(self, count: int) -> list[ConsumerRecord]:
        """The first ``count`` records of the late topic."""
        async with self._reading(self.topics.late) as records:
            found = []
            async for record in records:
                found.append(record)
                if len(found) == count:
                    break
        return found

    async def answered_times(self) -> Counter[str]:
        """How often each request stands in the fused topic now."""
        return Counter(record.key.decode() for record in await self.standing(self.topics.fused))

    async def standing(self, topic: str) -> list[ConsumerRecord]:
        """All records of a topic now."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka.bootstrap_servers,
            group_id=None,
            auto_offset_reset="earliest",
            isolation_level=self.isolation_level,
        )
        await consumer.start()
        try:
            parts = [TopicPartition(topic, p) for p in range(PARTITIONS)]
            consumer.assign(parts)
            ends = await consumer.end_offsets(parts)
            found: list[ConsumerRecord] = []
            async with asyncio.timeout(LIMIT_S):
                while any([await consumer.position(part) < ends[part] for part in parts]):
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        found += records
            return found
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _reading(self, topic: str) -> AsyncIterator[AsyncIterator[ConsumerRecord]]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.settings.kafka.bootstrap_servers,
            group_id=None,
            auto_offset_reset="earliest",
            isolation_level=self.isolation_level,
        )
        await consumer.start()
        try:
            async with asyncio.timeout(LIMIT_S):
                yield consumer
        finally:
            await consumer.stop()


def ids(prefix: str, count: int) -> list[str]:
    """Request ids, on whatever partitions."""
    return [f"{prefix}-{n:05d}" for n in range(count)]


def ids_of(partition: int, prefix: str, count: int) -> list[str]:
    """Request ids of one partition."""
    names = (f"{prefix}-{n:05d}" for n in itertools.count())
    own = (name for name in names if partition_of(name.encode(), PARTITIONS) == partition)
    return list(itertools.islice(own, count))


async def until(true: Callable[[], bool], what: str, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition, for a bounded time."""
    deadline = time.monotonic() + limit_s
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.05)
