"""Early decision and required members, through a real worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.fuser_world import World, ids_of, until
from tests.integration.shared_fuser import Shared, ends, shared_fuser

SURE = [1.0, 0.0, 0.0]
OTHER = [0.0, 1.0, 0.0]
DEADLINE_MS = 1500


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    with shared_fuser(
        runner,
        kafka_bootstrap,
        redis_url,
        tmp_path_factory.mktemp("fuser"),
        deadline_ms=DEADLINE_MS,
        early_decision=True,
        required=["a"],
    ) as shared:
        yield shared


async def say(world: World, requests: list[str], **outputs: Any) -> None:
    sent = [
        await world.put(member, request_id, world.prediction(request_id, member, output))
        for request_id in requests
        for member, output in outputs.items()
    ]
    await asyncio.gather(*sent)


async def test_it_answers_as_soon_as_nobody_can_change_the_label(shared: Shared) -> None:
    world, requests = shared.world, ids_of(0, "early", 20)
    before = shared.counts(0)
    await say(world, requests, a=SURE, b=SURE)
    fused = await world.fused_of(requests)
    assert ends(fused) == {("partial", "early")}
    for record in fused.values():
        answer = json.loads(record.value)
        assert (answer["label"], answer["asleep"]) == ("x", {"c": "unneeded"})
    await say(world, requests, c=OTHER)
    await until(lambda: (shared.counts(0) - before)["unneeded"] == len(requests), "c came for nothing")
    expected = {"partial": len(requests), "used": 2 * len(requests), "unneeded": len(requests)}
    assert shared.counts(0) - before == expected
    assert not await world.standing(world.topics.late), "what is not needed is not late"


async def test_two_who_disagree_wait_for_the_third(shared: Shared) -> None:
    world, requests = shared.world, ids_of(1, "open", 5)
    await say(world, requests, a=SURE, b=OTHER)
    await until(lambda: shared.open(1) == len(requests), "all are open")
    await say(world, requests, c=OTHER)
    fused = await world.fused_of(requests)
    assert ends(fused) == {("complete", None)}
    assert {json.loads(record.value)["label"] for record in fused.values()} == {"y"}


async def test_without_a_required_member_nothing_is_answered_early_or_late(shared: Shared) -> None:
    world, requests = shared.world, ids_of(2, "required", 5)
    await say(world, requests, b=SURE, c=SURE)
    fused = await world.fused_of(requests)
    assert ends(fused) == {("expired", "deadline")}
    waited = [record.timestamp - json.loads(record.value)["at"] for record in fused.values()]
    assert min(waited) >= DEADLINE_MS - 5


async def test_after_a_restart_what_was_decided_early_is_still_unneeded_not_late(shared: Shared) -> None:
    world, requests = shared.world, ids_of(3, "again", 10)
    await say(world, requests, a=SURE, b=SURE)
    await world.fused_of(requests)
    shared.worker.process.kill()
    shared.worker = world.start()
    await world.owning(shared.worker)
    await say(world, requests, c=OTHER)
    await until(lambda: shared.counts(3)["unneeded"] == len(requests), "c came for nothing")
    assert shared.counts(3)["late"] == 0
    assert set((await world.answered_times()).values()) == {1}
