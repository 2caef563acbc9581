"""Servers, workers and traffic of one run, and what may happen to them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from msgspec.structs import replace

from stream_ensemble import config
from stream_ensemble.embedded import EmbeddedRedis
from stream_ensemble.embedded.ports import HOST, free_port
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.offset_errors import OffsetsAdminClient
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.settings_file import dump
from tests.chaos.brokers import Brokers
from tests.chaos.epochs import near_their_end
from tests.chaos.faults import FAULTS
from tests.chaos.producers import Traffic
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import Event, Schedule
from tests.chaos.topic_log import TopicLog
from tests.chaos.workers import Fleet

MEMBERS = ("a", "b", "c")
CLASSES = ("x", "y", "z")
PARTITIONS = 4
DEADLINE_MS = 1000
QUORUM = 2
HALF_LIFE = 500.0
NAME = "chaos"
#: On all topics, so that times are the brokers' alone, whatever clock a worker has.
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
_UP_S = 90.0
_QUIET_S = 90.0
_TOOL_S = 120.0


class World:
    """One ensemble on real servers of its own.

    Attributes:
        lasted: by event, the wall clock (s) when it began and when what it did was undone.
        findings: what nobody may see, as it happened.
    """

    members = MEMBERS

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule = schedule
        self.folder = folder
        self.brokers = Brokers(1 if schedule.mode == "one" else 3, folder)
        self.broker_busy, self.redis_busy = asyncio.Lock(), asyncio.Lock()
        self.redis = EmbeddedRedis(folder / "redis", appendonly=schedule.seed % 2 == 0)
        self.redis_proxy = Proxy(free_port(), self.redis.port)
        self.settings = self._settings(self.brokers.direct, self.redis.url)
        self.topics = config.topic_names(NAME, self.settings.ensembles[NAME])
        behind = self._settings(self.brokers.proxied, f"redis://{HOST}:{self.redis_proxy.port}/0")
        self.fleet = Fleet(behind, folder, schedule.fusers, schedule.learners)
        self.traffic = Traffic(self.brokers.direct, self.topics, MEMBERS, CLASSES, PARTITIONS, schedule.seed)
        self.lasted: list[tuple[Event, float, float]] = []
        self.findings: list[str] = []

    def _settings(self, bootstrap: list[str], redis_url: str) -> config.Settings:
        return config.Settings(
            app=NAME,
            kafka=config.Kafka(
                bootstrap_servers=bootstrap,
                session_timeout_s=6.0,
                heartbeat_interval_s=0.5,
                replication_factor=self.brokers.copies,
                delivery=self.schedule.delivery,
            ),
            redis=config.Redis(url=redis_url),
            ensembles={
                NAME: config.Ensemble(
                    members=list(MEMBERS),
                    task=config.Task(classes=list(CLASSES)),
                    partitions=PARTITIONS,
                    deadline_ms=DEADLINE_MS,
                    quorum=QUORUM,
                    learning=config.Learning(algorithm="ml_poly", half_life=HALF_LIFE),
                )
            },
        )

    def note(self, finding: str) -> None:
        """Something that should not be."""
        self.findings.append(finding)

    # --- the run --------------------------------------------------------------------------------------

    async def __aenter__(self) -> World:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "ensemble.toml").write_text(dump(self.settings))
        try:
            await asyncio.gather(self.brokers.start(), asyncio.to_thread(self.redis.start))
            await self.redis_proxy.start()
            async with admin_client(self.settings.kafka) as client:
                wanted = [
                    replace(topic, exact=topic.exact | _APPEND_TIME) for topic in wanted_topics(self.settings)
                ]
                await create_topics(client, wanted, self.settings.kafka)
            if self.schedule.near_last_epoch:
                await near_their_end(self.brokers, self._transactional_ids())
            self.fleet.start()
            await self._until_owned()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.fleet.kill_all()
        await self.redis_proxy.stop()
        await asyncio.to_thread(self.redis.kill)
        await self.brokers.stop()

    def _transactional_ids(self) -> list[str]:
        return [f"{NAME}-{app}-{NAME}-{p}" for app in ("fuse", "learn") for p in range(PARTITIONS)]

    async def _until_owned(self) -> None:
        deadline = time.monotonic() + _UP_S
        while True:
            owned = dict.fromkeys(("fuse", "learn"), 0)
            for slot in self.fleet.slots:
                if slot.worker is not None:
                    owned[slot.app] += await asyncio.to_thread(slot.worker.owned)
            if all(count == PARTITIONS for count in owned.values()):
                return
            assert time.monotonic() < deadline, f"not within {_UP_S:g} s: all partitions owned, now {owned}"
            await asyncio.sleep(0.2)

    async def run(self) -> None:
        """Traffic with faults, then everything is whole again and becomes quiet."""
        watching = asyncio.create_task(self.fleet.watch())
        events = [asyncio.create_task(self._event(event)) for event in self.schedule.events]
        try:
            await self.traffic.run(self.schedule.traffic_s, self.schedule.requests_a_second)
            await asyncio.gather(*events)
        finally:
            for task in (*events, watching):
                task.cancel()
            await asyncio.gather(*events, watching, return_exceptions=True)
        self.brokers.heal()
        self.redis_proxy.heal()
        for slot in self.fleet.slots:
            if slot.worker is not None and not slot.worker.process.running:
                slot.start()

    async def _event(self, event: Event) -> None:
        await asyncio.sleep(event.at_s)
        began = time.time()
        await FAULTS[event.fault](self, event)
        self.lasted.append((event, began, time.time()))

    async def in_sync(self) -> None:
        """Until every replica follows its leader."""
        admin = OffsetsAdminClient(bootstrap_servers=self.brokers.direct)
        await admin.start()
        try:
            deadline = time.monotonic() + _UP_S
            while True:
                topics = await admin.describe_topics(None)
                parts = [part for topic in topics for part in topic["partitions"]]
                if all(set(part["isr"]) == set(part["replicas"]) for part in parts):
                    return
                assert time.monotonic() < deadline, "replicas did not come in sync again"
                await asyncio.sleep(0.2)
        finally:
            await admin.close()

    # --- afterwards -----------------------------------------------------------------------------------

    async def quiet(self, log: TopicLog) -> None:
        """Until both groups have committed all there is; what is not within 90 s is a finding."""
        admin = OffsetsAdminClient(bootstrap_servers=self.brokers.direct)
        await admin.start()
        try:
            deadline = time.monotonic() + _QUIET_S
            while True:
                await log.catch_up()
                try:
                    behind = await self._behind(admin, log)
                except KafkaError as error:  # the coordinator is on its way
                    behind = {repr(error): 1}
                if not behind:
                    return
                if time.monotonic() > deadline:
                    self.note(f"not done {_QUIET_S:g} s after the traffic's end: {behind}")
                    return
                await asyncio.sleep(0.5)
        finally:
            await admin.close()

    async def _behind(self, admin: OffsetsAdminClient, log: TopicLog) -> dict[str, int]:
        inputs = {
            "fuse": (*self.topics.predictions, self.topics.requests),
            "learn": (self.topics.fused, self.topics.feedback),
        }
        behind = {}
        for app, topics in inputs.items():
            committed = await admin.list_consumer_group_offsets(f"{NAME}-{app}")
            for topic in topics:
                for p in range(PARTITIONS):
                    tp = TopicPartition(topic, p)
                    at = committed[tp].offset if tp in committed else -1
                    if log.ends[tp] > max(at, 0):
                        behind[f"{app} {topic}/{p}"] = log.ends[tp] - max(at, 0)
        return behind

    async def tool(self, *arguments: str) -> tuple[int, str]:
        """A ``stream-ensemble`` command: its exit code and what it said."""
        command = [sys.executable, "-m", "stream_ensemble.cli", *arguments]
        command += ["--config", str(self.folder / "ensemble.toml")]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            timeout=_TOOL_S,
            env={**os.environ, "COLUMNS": "140"},
        )
        return done.returncode, done.stdout + done.stderr
