"""Members come and go on real servers: in shadow, admitted by their record, retired, in a rolling restart."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_ensemble import config
from stream_ensemble.cli.main import main
from tests.integration.fuser_world import CLASSES, MEMBERS, PARTITIONS, Worker, World, ids
from tests.integration.weights_command import WeightsCommand

ADMISSION = config.Admission(share=0.2, least_labels=40.0, warm_labels=60.0)
LEARNING = config.Learning(algorithm="bank", flush_interval_ms=50, admission=ADMISSION)


def output(sure: float, shown: int) -> list[float]:
    return [sure if c == shown else (1 - sure) / 2 for c in range(3)]


class Fleet:
    """An ensemble of which three members know little, s much and t nothing; labels follow answers."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def say(self, member: str, request_id: str, said: list[float]) -> None:
        names = config.everyone(self.world.settings.ensembles[self.world.settings.app])
        value = self.world.prediction(request_id, member, said)
        await self.world.write(self.world.topics.predictions[names.index(member)], request_id, value)

    async def ask(self, some: Sequence[str], shadows: str = "st") -> dict[str, dict[str, Any]]:
        for n, request_id in enumerate(some):
            for shadow in shadows:
                await self.say(shadow, request_id, output(0.9, n % 3 if shadow == "s" else (n + 1) % 3))
            for k, member in enumerate(MEMBERS):
                await self.say(member, request_id, output(0.5, n % 3 if n % 4 != k else (n + 1) % 3))
        return {k: json.loads(r.value) for k, r in (await self.world.fused_of(some)).items()}

    async def late(self, some: Sequence[str]) -> None:
        for n, request_id in enumerate(some):
            await self.say("s", request_id, output(0.9, n % 3))

    async def label(self, some: Sequence[str]) -> None:
        for n, request_id in enumerate(some):
            record = {"version": 1, "kind": "feedback", "request_id": request_id, "label": CLASSES[n % 3]}
            await self.world.write(self.world.topics.feedback, request_id, json.dumps(record).encode())


@pytest.fixture
def fleet(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> Fleet:
    more = {"shadows": ["s", "t"], "learning": LEARNING, "deadline_ms": 3000}
    return Fleet(World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, **more))


@pytest.fixture
def weights(fleet: Fleet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> WeightsCommand:
    return WeightsCommand(fleet.world, tmp_path, capfd)  # type: ignore[arg-type]


async def test_a_shadow_earns_its_place_and_a_bad_one_never_does(
    fleet: Fleet, weights: WeightsCommand, tmp_path: Path
) -> None:
    world = fleet.world
    async with world:
        fuse, learn = world.start(), world.start("learn")
        await world.owning(fuse, learn, partitions=2 * PARTITIONS)
        first = await fleet.ask(ids("first", 60))
        for record in first.values():
            assert (record["status"], sorted(record["shadow"])) == ("complete", ["s", "t"])
            assert record["weights"]["s"] == record["weights"]["t"] == 0.0
            mean = [sum(record["components"][m][c] for m in MEMBERS) / 3 for c in range(3)]
            assert record["output"] == pytest.approx(mean, abs=0.05)
        # Half of s's answers come late: they are scored all the same.
        second = await fleet.ask(ids("second", 60), shadows="t")
        assert all(record["shadow"] == ["t"] for record in second.values())
        await fleet.late(list(second))
        await fleet.label([*first, *second])
        for number in itertools.count():
            assert number < 100, (await weights("list")).out
            last = await fleet.ask(ids(f"then{number}", 6))
            if any("warm" in record for record in last.values()):
                break
            await asyncio.sleep(0.2)
        shown = (await weights("show", "--json")).json
        s, t = shown["members"]["s"], shown["members"]["t"]
        assert (s["awaited"], s["admission"]["by"], s["record"]["labels"]) == (True, "admission", 120.0)
        assert (t["awaited"], t["admission"], t["record"]["labels"]) == (False, None, 120.0)
        assert s["record"]["evidence"] >= 100 > 1 > t["record"]["evidence"]
        listed = await weights("list")
        assert "s: member, admitted by the admission (control record 1)" in listed.out
        assert "t: in shadow; 120 labels scored" in listed.out
        last = await fleet.ask(ids("admitted", 6))
        for record in last.values():
            assert record["warm"]["s"] == pytest.approx(0.2)
            assert record["weights"]["s"] >= 0.2
            assert record["shadow"] == ["t"]
        # Its warm share falls and what it earns takes over.
        for number in range(4):
            some = ids(f"earned{number}", 30)
            await fleet.ask(some)
            await fleet.label(some)
            await asyncio.sleep(1.0)
        last = await fleet.ask(ids("settled", 6))
        for record in last.values():
            assert "warm" not in record
            assert record["weights"]["s"] > 0.5
            assert record["weights"]["t"] == 0.0
        assert (await weights("recompute", "--json")).json["differences"] == []
        retired = await weights("retire", "s")
        assert (retired.code, retired.err) == (0, "")
        await until_fused(fleet, lambda record: sorted(record["shadow"]) == ["s", "t"], "retired")
        assert (await weights("retire", "s")).code == 1
        assert (await weights("admit", "s", "--cold")).code == 0
        back = await until_fused(fleet, lambda record: record["shadow"] == ["t"], "back")
        # What it had earned had stayed.
        assert back["weights"]["s"] > 0.5
        assert (await weights("recompute", "--json")).json["differences"] == []
        assert await asyncio.to_thread(main, ["audit", "--config", str(tmp_path / "ensemble.toml")]) == 0


async def until_fused(fleet: Fleet, holds: Any, prefix: str) -> dict[str, Any]:
    for number in range(50):
        for record in (await fleet.ask(ids(f"{prefix}{number}", 2))).values():
            if holds(record):
                return record
        await asyncio.sleep(0.1)
    raise AssertionError(f"no request was fused so: {prefix}")


class Load:
    """Requests at an even pace, each answered by everybody who is a member in some configuration."""

    def __init__(self, world: World, topics: dict[str, str]) -> None:
        self.world, self.topics = world, topics
        self.asked: list[str] = []
        self._stop = False

    async def run(self) -> None:
        while not self._stop:
            request_id = f"load-{len(self.asked):05d}"
            for member, topic in self.topics.items():
                value = self.world.prediction(request_id, member)
                await self.world.write(topic, request_id, value)
            self.asked.append(request_id)
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        self._stop = True


@pytest.mark.parametrize(
    ("requests", "new_members", "new_shadows"),
    [(True, "ab", "d"), (False, "ab", "d"), (True, "abd", "")],
    ids=["d in shadow", "d in shadow, no requests topic", "d awaited"],
)
async def test_a_fleet_restarted_one_by_one_with_one_added_and_one_retired_loses_and_pauses_nothing(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    requests: bool,
    new_members: str,
    new_shadows: str,
) -> None:
    more: dict[str, Any] = {} if requests else {"topics": config.Topics(requests="")}
    everything = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, shadows=["d"], **more)
    name = everything.settings.app
    ensemble = everything.settings.ensembles[name]

    def settings(members: list[str], shadows: list[str]) -> config.Settings:
        changed = msgspec.structs.replace(ensemble, members=members, shadows=shadows)
        return msgspec.structs.replace(everything.settings, ensembles={name: changed})

    old, new = settings(["a", "b", "c"], []), settings(list(new_members), list(new_shadows))
    async with everything as world:
        topics = dict(zip(config.everyone(ensemble), world.topics.predictions, strict=True))
        # What it says comes first, so that it is in time.
        topics = {"d": topics.pop("d")} | topics
        workers = [Worker(old, tmp_path / f"old{n}") for n in range(2)]
        load = Load(world, topics)
        try:
            await world.owning(*workers)
            going = asyncio.create_task(load.run())
            await asyncio.sleep(2)
            for n in range(2):
                await asyncio.to_thread(workers[n].process.stop, 20.0)
                workers[n] = Worker(new, tmp_path / f"new{n}")
                await world.owning(*workers)
                await asyncio.sleep(2)
            load.stop()
            await going
            found = await world.fused_of(load.asked)
            assert set(await world.answered_times()) == set(load.asked)
            records = [json.loads(record.value) for record in found.values()]
            assert {record["status"] for record in records} <= {"complete", "partial"}
            last = json.loads(found[load.asked[-1]].value)
            assert (last["status"], sorted(last["components"])) == ("complete", list("abd"))
            assert last.get("shadow", []) == list(new_shadows)
            shares = [last["weights"][member] for member in "abd"]
            assert shares == pytest.approx([1 / 2, 1 / 2, 0] if new_shadows else [1 / 3] * 3)
            # Nobody waits longer than a deadline and a rebalance.
            times = sorted(record.timestamp for record in found.values())
            assert max(b - a for a, b in itertools.pairwise(times)) < 1000 + 6000
            for partition in range(PARTITIONS):
                at = sorted(r.timestamp for r in found.values() if r.partition == partition)
                assert max(b - a for a, b in itertools.pairwise(at)) < 1000 + 8000
        finally:
            for worker in workers:
                worker.process.kill()
