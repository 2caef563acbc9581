"""Servers, workers and publishers of a replay, and what happens to them on the way."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import redis

from stream_ensemble import config
from stream_ensemble.embedded import EmbeddedRedis
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.admin import admin_client, create_topics
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.settings_file import dump
from tests.chaos.workers import Fleet, Slot
from tests.integration.sdk_topics import PARTITIONS, committed, ends
from tests.replay.publish import Pace
from tests.replay.schedule import CORRECTED_AFTER, Schedule

DEADLINE_MS = 500
_ROOT = Path(__file__).parents[2]
_LIMIT_S = 60.0
_TOOL_S = 120.0
#: For the publishers to start and connect: some seconds, and some more for each.
_START_S, _START_EACH_S = 3.0, 0.6


class Plan(NamedTuple):
    """How a stream is replayed: requests a second, and after how many requests labels come."""

    rate: float
    delay: int


class World:
    """One ensemble with two fusers, two to four learners, and a process for each publisher.

    Attributes:
        events: what happened when, to be read by people.
        findings: what should not have been.
    """

    def __init__(self, bootstrap: str, name: str, schedule: Schedule, plan: Plan, folder: Path) -> None:
        self.schedule, self.plan, self.folder = schedule, plan, folder
        self.stream = folder / "stream.npz"
        self.redis = EmbeddedRedis(folder / "redis")
        self.settings = config.Settings(
            app=name,
            kafka=config.Kafka(
                bootstrap_servers=[bootstrap], session_timeout_s=6.0, heartbeat_interval_s=0.5
            ),
            redis=config.Redis(url=self.redis.url),
            ensembles={
                name: config.Ensemble(
                    members=list(schedule.members),
                    task=config.Task(classes=[f"class{c}" for c in range(schedule.classes)]),
                    partitions=PARTITIONS,
                    deadline_ms=DEADLINE_MS,
                )
            },
        )
        self.topics = config.topic_names(name, self.settings.ensembles[name])
        self.fleet = Fleet(self.settings, folder, fusers=2, learners=2)
        self.events: list[str] = []
        self.findings: list[str] = []
        self.publishers: dict[str, ChildProcess] = {}

    async def __aenter__(self) -> World:
        (self.folder / "ensemble.toml").write_text(dump(self.settings))
        self.schedule.save(self.stream)
        try:
            await asyncio.to_thread(self.redis.start)
            async with admin_client(self.settings.kafka) as client:
                await create_topics(client, wanted_topics(self.settings), self.settings.kafka)
            self.fleet.start()
            for app in ("fuse", "learn"):
                await self._owned(self.fleet.of(app))  # type: ignore[arg-type]
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for publisher in self.publishers.values():
            await asyncio.to_thread(publisher.kill)
        await self.fleet.kill_all()
        await asyncio.to_thread(self.redis.kill)

    # --- the run --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Publish everything, with what goes wrong meanwhile, and wait until all of it is learned."""
        roles = [*self.schedule.members, "requests", "labels"]
        pace = Pace(time.time() + _START_S + _START_EACH_S * len(roles), self.plan.rate)
        for role in roles:
            self._publish(role, pace)
        rows = self.schedule.rows
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._at(pace, rows // 4, self._more_learners))
            tasks.create_task(self._at(pace, rows // 2, self._empty_redis))
            tasks.create_task(self._at(pace, 3 * rows // 4, self._one_learner_less))
            tasks.create_task(self._published(pace))
        await self._quiet()
        for slot in self.fleet.slots:
            if slot.worker is not None and not slot.worker.process.running:
                self.findings.append(f"{slot.name} ended by itself:\n{slot.worker.process.output()}")

    def _publish(self, role: str, pace: Pace) -> None:
        command = [sys.executable, "-m", "tests.replay.publish", role, str(self.stream)]
        command += ["--config", str(self.folder / "ensemble.toml"), "--began", repr(pace.began)]
        command += ["--rate", repr(pace.rate), "--delay", str(self.plan.delay)]
        self.publishers[role] = ChildProcess(
            role,
            command,
            self.folder / f"publish-{role}.log",
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"},
        )

    async def _published(self, pace: Pace) -> None:
        """Until every publisher has ended; the last label comes after the last request."""
        last = self.schedule.rows + self.plan.delay + CORRECTED_AFTER
        until = pace.began + last / pace.rate + _LIMIT_S
        behind = {}
        for role, process in self.publishers.items():
            status = await asyncio.to_thread(process.wait, max(until - time.time(), 1.0))
            if status != 0:
                self.findings.append(f"the publisher of {role} ended with {status}:\n{process.output()}")
                continue
            behind[role] = json.loads(process.output().splitlines()[-1])["behind_s"]
        slowest = max(behind, key=lambda role: behind[role], default="nobody")
        self.events.append(f"publishers: at most {behind.get(slowest, 0.0):.2f} s behind ({slowest})")

    async def _at(self, pace: Pace, row: int, happens: Callable[[], Awaitable[str]]) -> None:
        await asyncio.sleep(max(0.0, pace.began + row / pace.rate - time.time()))
        self.events.append(f"request {row:,}: {await happens()}")

    # --- what happens ---------------------------------------------------------------------------------

    async def _more_learners(self) -> str:
        began = time.monotonic()
        for _ in range(2):
            self.fleet.add("learn").start()
        learners = self.fleet.of("learn")
        await self._owned(learners, each=1)
        passed = time.monotonic() - began
        return f"two more learners; {passed:.1f} s later each of the {len(learners)} owned a partition"

    async def _empty_redis(self) -> str:
        def empty() -> int:
            with redis.Redis.from_url(self.redis.url) as client:
                held = client.dbsize()
                client.flushall()
                return int(held)  # type: ignore[arg-type]

        held = await asyncio.to_thread(empty)
        if not held:
            self.findings.append("there was nothing in Redis to be lost")
        return f"Redis emptied of {held} keys"

    async def _one_learner_less(self) -> str:
        began = time.monotonic()
        going, *staying = self.fleet.of("learn")
        status = await going.term()
        if status != 0:
            self.findings.append(f"{going.name} ended with {status} after SIGTERM")
        ended = time.monotonic() - began
        await self._owned(staying, each=1)
        passed = time.monotonic() - began
        return (
            f"a learner got SIGTERM and ended with {status} after {ended:.1f} s; after {passed:.1f} s the "
            f"other {len(staying)} owned all partitions"
        )

    async def _owned(self, slots: list[Slot], each: int = 0) -> None:
        """Until these workers own all partitions, and none of them fewer than ``each``."""
        deadline = time.monotonic() + _LIMIT_S
        while True:
            counts = [await asyncio.to_thread(slot.worker.owned) for slot in slots if slot.worker is not None]
            if sum(counts) == PARTITIONS and min(counts) >= each:
                return
            assert time.monotonic() < deadline, f"not within {_LIMIT_S:g} s: all partitions owned, {counts}"
            await asyncio.sleep(0.1)

    # --- afterwards -----------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """Until both groups have committed all there is."""
        deadline = time.monotonic() + _LIMIT_S
        while behind := await self._behind():
            assert time.monotonic() < deadline, f"not done {_LIMIT_S:g} s after the last label: {behind}"
            await asyncio.sleep(0.5)

    async def _behind(self) -> dict[str, int]:
        inputs = {
            "fuse": (*self.topics.predictions, self.topics.requests),
            "learn": (self.topics.fused, self.topics.feedback),
        }
        behind = {}
        for app, topics in inputs.items():
            for topic in topics:
                there = await ends(self.settings, topic)
                done = await committed(self.settings, f"{self.settings.app}-{app}", topic)
                behind[topic] = sum(end - done.get(p, 0) for p, end in there.items())
        return {topic: left for topic, left in behind.items() if left > 0}

    async def tool(self, *arguments: str) -> tuple[int, str]:
        """A ``stream-ensemble`` command: its exit code and what it said."""
        given = [*arguments, "--config", str(self.folder / "ensemble.toml")]
        return await asyncio.to_thread(command, *given)


def command(*arguments: str) -> tuple[int, str]:
    """As a user would start it: exit code and standard output, with the errors where it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "stream_ensemble.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=_TOOL_S,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "COLUMNS": "140"},
    )
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")
