"""The learn app as an operator starts it: learns, survives kills and rebalances, ends when asked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from tests.integration.learner_world import MEMBERS, World, ids, names
from tests.integration.weights_command import WeightsCommand

PARTITIONS = 3
READY_S = 60.0


class Worker:
    """A ``faust -A stream_ensemble.learn worker`` process."""

    def __init__(self, world: World, folder: Path, name: str) -> None:
        self.port = free_port()
        self.folder = folder / name
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "ensemble.toml"
        config.write_text(_toml(world, self.folder))
        command = [sys.executable, "-m", "faust", "-A", "stream_ensemble.learn", "worker"]
        environment = {**os.environ, "STREAM_ENSEMBLE_CONFIG": str(config), "PYTHONUNBUFFERED": "1"}
        self.process = ChildProcess(
            name,
            [*command, "-l", "info", "--web-port", str(self.port)],
            self.folder / "log.txt",
            env=environment,
        )

    def get(self, page: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{page}", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return str(error.read().decode())

    def owned(self) -> list[str]:
        assert self.process.running, self.process.output()
        try:
            health: dict[str, Any] = json.loads(self.get("/health"))
        except (OSError, ValueError):
            return []
        return list(health["partitions"])


def _toml(world: World, folder: Path) -> str:
    settings = world.settings
    return f"""
app = "{settings.app}"
[kafka]
bootstrap_servers = {json.dumps(settings.kafka.bootstrap_servers)}
session_timeout_s = 6.0
heartbeat_interval_s = 0.5
[redis]
url = "{settings.redis.url}"
[worker]
data_dir = "{folder}"
[ensembles.{world.name}]
members = {json.dumps(list(MEMBERS))}
partitions = {PARTITIONS}
[ensembles.{world.name}.task]
classes = {json.dumps(world.settings.ensembles[world.name].task.classes)}
[ensembles.{world.name}.learning]
algorithm = "ml_poly"
half_life = 20.0
"""


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=PARTITIONS)


@pytest.fixture
def workers(world: World, tmp_path: Path) -> Iterator[Workers]:
    some = Workers(world, tmp_path)
    yield some
    for worker in some.started:
        worker.process.kill()


class Workers:
    def __init__(self, world: World, folder: Path) -> None:
        self.started: list[Worker] = []
        self._world = world
        self._folder = folder

    def start(self, name: str) -> Worker:
        worker = Worker(self._world, self._folder, name)
        self.started.append(worker)
        return worker

    async def all_owned(self, *workers: Worker) -> None:
        """Until these workers together own every partition, each at least one."""
        await _until(
            lambda: _complete([worker.owned() for worker in workers]),
            lambda: "\n".join(worker.process.output() for worker in workers),
        )

    async def learned(self, count: int) -> None:
        """Until Redis holds ``count`` learned labels."""
        deadline = time.monotonic() + READY_S
        while sum(part.n for part in await self._world.in_redis()) != count:
            if time.monotonic() > deadline:
                found = [part.n for part in await self._world.in_redis()]
                logs = "\n".join(worker.process.output() for worker in self.started)
                raise AssertionError(f"learned {found}, expected {count} in all\n{logs}")
            await asyncio.sleep(0.05)


def _complete(owned: list[list[str]]) -> bool:
    return all(owned) and len({place for places in owned for place in places}) == PARTITIONS


async def _until(done: Any, explain: Any) -> None:
    deadline = time.monotonic() + READY_S
    while not await asyncio.to_thread(done):
        if time.monotonic() > deadline:
            raise AssertionError(explain())
        await asyncio.sleep(0.05)


async def test_learns_says_so_and_ends_in_order_when_asked(world: World, workers: Workers) -> None:
    async with world:
        worker = workers.start("one")
        some = ids(60)
        await world.fused(*some)
        await workers.all_owned(worker)
        for request_id, name in names(some):
            await world.label(request_id, name)
        await world.label(some[0], "no such class")
        await workers.learned(60)
        assert await world.check_against_topics(ignore=lambda label: label == "no such class") == 60
        await _until(lambda: 'fate="dead:unknown-class"' in worker.get("/metrics"), worker.process.output)
        metrics = worker.get("/metrics")
        assert 'fate="learned"' in metrics
        assert json.loads(worker.get("/health"))["healthy"] is True
        began = time.monotonic()
        assert worker.process.stop(timeout_s=15.0) == 0
        assert time.monotonic() - began < 10.0
        assert [reason for reason, _ in await world.dead()] == ["unknown-class"]


async def test_a_killed_worker_is_followed_by_another_and_every_label_counts_once(
    world: World, workers: Workers
) -> None:
    async with world:
        first = workers.start("first")
        await workers.all_owned(first)
        some = ids(90)
        await world.fused(*some)
        for request_id, name in names(some[:45]):
            await world.label(request_id, name)
        first.process.kill()
        second = workers.start("second")
        for request_id, name in names(some[45:]):
            await world.label(request_id, name)
        await world.label(some[3], "z", revision=1)
        await workers.all_owned(second)
        await workers.learned(90)
        assert await world.check_against_topics() == 90


async def test_partitions_move_between_workers_while_labels_come(world: World, workers: Workers) -> None:
    async with world:
        first = workers.start("first")
        await workers.all_owned(first)
        some = ids(120)
        await world.fused(*some)
        second = workers.start("second")
        for request_id, name in names(some[:60]):
            await world.label(request_id, name)
        await workers.all_owned(first, second)
        second.process.stop(timeout_s=15.0)
        for request_id, name in names(some[60:]):
            await world.label(request_id, name)
        await workers.all_owned(first)
        await workers.learned(120)
        assert await world.check_against_topics() == 120


async def test_a_worker_stopped_past_its_session_and_resumed_doubles_nothing(
    world: World, workers: Workers
) -> None:
    async with world:
        sleeper = workers.start("sleeper")
        await workers.all_owned(sleeper)
        some = ids(60)
        await world.fused(*some)
        for request_id, name in names(some[:30]):
            await world.label(request_id, name)
        await workers.learned(30)
        sleeper.process.pause()
        for request_id, name in names(some[30:]):
            await world.label(request_id, name)
        successor = workers.start("successor")
        await workers.all_owned(successor)
        await workers.learned(60)
        sleeper.process.resume()
        await world.label(some[0], "z", revision=4)
        late = ids(6, "late")
        await world.fused(*late)
        for request_id, name in names(late):
            await world.label(request_id, name)
        await workers.all_owned(sleeper, successor)
        await workers.learned(66)
        assert await world.check_against_topics() == 66


def _figures(worker: Worker, metric: str) -> list[float]:
    lines = worker.get("/metrics").splitlines()
    return [float(line.split()[-1]) for line in lines if line.startswith(metric)]


async def test_commands_reach_every_owner_while_partitions_move_and_say_where_there_is_none(
    world: World, workers: Workers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = WeightsCommand(world, tmp_path, capfd)
    async with world:
        first = workers.start("first")
        await workers.all_owned(first)
        pinned = await weights("pin", "--uniform", "--json")
        assert (pinned.code, pinned.json["applied"], pinned.json["left"]) == (0, [0, 1, 2], {})
        assert _figures(first, 'stream_ensemble_weights_pinned{by="operator"') == [1.0] * PARTITIONS
        second = workers.start("second")
        moving = asyncio.create_task(workers.all_owned(first, second))
        unpinned, again = await weights("unpin", "--json"), await weights("pin", "current", "--json")
        assert (unpinned.code, again.code) == (0, 0), (unpinned, again)
        assert again.json["control"]["number"] == 3
        await moving
        for worker in (first, second):
            worker.process.kill()
        left = await weights("reset", "--json")
        assert left.code == 1
        assert left.json["left"].keys() == {"0", "1", "2"}
        assert all("nobody owns it" in why for why in left.json["left"].values())
        third = workers.start("third")
        await workers.all_owned(third)
        generations = "stream_ensemble_weights_generation{"
        await _until(lambda: _figures(third, generations) == [1.0] * PARTITIONS, third.process.output)
        live = await weights("recompute", "--json")
        assert (live.json["same"], live.json["generation"]) == (True, 1)
        listed = await weights("list", "--json")
        assert [pin["number"] for pin in listed.json["pins"]] == [3]
