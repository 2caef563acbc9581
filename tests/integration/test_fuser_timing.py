"""Predictions out of order by minutes: requests that are old, and a member's topic that is read later."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from stream_ensemble.kafka.admin import admin_client, alter_topics, read_topics
from tests.integration.fuser_world import MEMBERS, ids_of, until
from tests.integration.shared_fuser import Shared, ends, shared_fuser

DEADLINE_MS = 600
MINUTE_MS = 60_000
CREATE_TIME = 0
#: So little that a topic of large records takes many fetches, while the others are read to their ends in one.
FETCH_BYTES = 32 << 10


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("fuser")
    with shared_fuser(
        runner, kafka_bootstrap, redis_url, folder, deadline_ms=DEADLINE_MS, fetch_bytes=FETCH_BYTES
    ) as shared:
        yield shared


async def test_a_request_made_minutes_ago_is_joined_and_one_beyond_the_horizon_is_late(
    shared: Shared,
) -> None:
    world, [old, mixed, too_old] = shared.world, ids_of(0, "old", 3)
    before = shared.counts(0)
    now = int(time.time() * 1000)
    made = {old: now - 9 * MINUTE_MS, mixed: now - 9 * MINUTE_MS, too_old: now - 11 * MINUTE_MS}
    for request_id, at in made.items():
        for member in MEMBERS:
            # Members copy the request's time; c got one of them wrong.
            said = made[too_old] if (member, request_id) == ("c", mixed) else at
            await world.put(member, request_id, world.prediction(request_id, member, at=said))
    fused = await world.fused_of([old, mixed])
    assert json.loads(fused[old].value)["at"] == made[old]
    assert ends({old: fused[old]}) == {("complete", None)}
    assert ends({mixed: fused[mixed]}) == {("partial", "deadline")}
    expected = {"complete": 1, "partial": 1, "used": 5, "late": 4}
    await until(lambda: shared.counts(0) - before == expected, "each has its fate")
    late = [record.key.decode() for record in await world.late(4)]
    assert sorted(late) == sorted([mixed, *[too_old] * 3])


async def append_times_from_publishers(shared: Shared) -> None:
    """Let a test write a log that took minutes."""
    topics = shared.world.topics.predictions
    changes = {topic: {"message.timestamp.type": "CreateTime"} for topic in topics}
    async with admin_client(shared.world.settings.kafka) as client:
        await alter_topics(client, changes, await read_topics(client, topics))


async def test_a_member_whose_topic_is_read_minutes_behind_the_others_is_neither_given_up_nor_silent(
    shared: Shared,
) -> None:
    partition, world = 1, shared.world
    requests = ids_of(partition, "lag", 200)
    await append_times_from_publishers(shared)
    before = shared.counts(partition)
    first = int(time.time() * 1000) - 9 * MINUTE_MS
    shared.worker.process.pause()
    try:
        sent = []
        for n, request_id in enumerate(requests):
            appended = first + n * 2 * DEADLINE_MS
            for member in MEMBERS:
                more = {"explained": "x" * 3000} if member == "c" else {}
                value = world.prediction(request_id, member, at=appended, **more)
                sent.append(await world.put(member, request_id, value, timestamp_ms=appended))
        written = await asyncio.gather(*sent)
    finally:
        shared.worker.process.resume()
    assert {record.timestamp_type for record in written} == {CREATE_TIME}
    assert appended - first > 3 * MINUTE_MS
    fused = await world.fused_of(requests)
    assert ends(fused) == {("complete", None)}
    assert not shared.silent("c", partition)
    assert shared.counts(partition) - before == {"complete": len(requests), "used": 3 * len(requests)}
