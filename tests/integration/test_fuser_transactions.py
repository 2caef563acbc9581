"""Publishers that write in transactions: committed, aborted and left open."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import Producer

from tests.integration.fuser_world import World, ids_of, until
from tests.integration.shared_fuser import Shared, ends, shared_fuser

DEADLINE_MS = 1500
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    with shared_fuser(
        runner, kafka_bootstrap, redis_url, tmp_path_factory.mktemp("fuser"), deadline_ms=DEADLINE_MS
    ) as shared:
        yield shared


def client_of(world: World) -> Producer:
    """A client that may begin a transaction; making one takes long on a busy machine."""
    options = {"transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 60_000}
    client = Producer({"bootstrap.servers": world.settings.kafka.bootstrap_servers[0], **options})
    client.init_transactions(WITHIN_S)
    return client


@contextmanager
def transaction(
    world: World, member: str, partition: int, requests: list[str], client: Producer | None = None
) -> Iterator[Producer]:
    """A transaction with this member's predictions, on the broker and open; the test ends it."""
    client = client or client_of(world)
    client.begin_transaction()
    topic = world.topics.predictions["abc".index(member)]
    for request_id in requests:
        client.produce(topic, world.prediction(request_id, member), request_id, partition=partition)
    assert client.flush(WITHIN_S) == 0
    yield client


def components(record: bytes) -> set[str]:
    return set(json.loads(record)["components"])


async def test_committed_ones_are_used_and_the_marker_behind_them_does_not_stop_the_clock(
    shared: Shared,
) -> None:
    world, [whole, partly] = shared.world, ids_of(0, "committed", 2)
    before = shared.counts(0)
    for member, client in {member: client_of(world) for member in "abc"}.items():
        # The last offset of each partition is then a marker's; nothing of c about `partly` ever comes.
        told = [whole, partly] if member != "c" else [whole]
        with transaction(world, member, 0, told, client):
            client.commit_transaction(WITHIN_S)
    fused = await world.fused_of([whole, partly])
    assert ends({whole: fused[whole]}) == {("complete", None)}
    assert ends({partly: fused[partly]}) == {("partial", "deadline")}
    assert components(fused[partly].value) == {"a", "b"}
    assert shared.counts(0) - before == {"complete": 1, "partial": 1, "used": 5}


async def test_aborted_ones_are_never_used_and_nobody_waits_for_them(shared: Shared) -> None:
    world, [request_id, after] = shared.world, ids_of(1, "aborted", 2)
    before = shared.counts(1)
    await world.predict([request_id], "ab")
    with transaction(world, "c", 1, [request_id]) as client:
        client.abort_transaction(WITHIN_S)
    fused = await world.fused_of([request_id])
    assert ends(fused) == {("partial", "deadline")}
    assert components(fused[request_id].value) == {"a", "b"}
    await world.predict([after])
    assert ends(await world.fused_of([after])) == {("complete", None)}
    assert shared.counts(1) - before == {"partial": 1, "complete": 1, "used": 5}


async def test_an_open_one_hides_all_from_it_on_and_the_deadline_still_passes(shared: Shared) -> None:
    partition, elsewhere = 2, 3
    world, [inside, behind] = shared.world, ids_of(partition, "open", 2)
    before = shared.counts(partition)
    with transaction(world, "c", partition, [inside]) as client:
        hidden = await (await world.put("c", behind, world.prediction(behind, "c")))
        await world.predict([inside, behind], "ab")
        others = ids_of(elsewhere, "others", 5)
        await world.predict(others)
        assert ends(await world.fused_of(others)) == {("complete", None)}
        fused = await world.fused_of([inside, behind])
        assert ends(fused) == {("partial", "deadline")}
        for record in fused.values():
            assert components(record.value) == {"a", "b"}
            assert record.timestamp - hidden.timestamp >= DEADLINE_MS
        client.commit_transaction(WITHIN_S)
    # What was appended in time could be read only now.
    await until(
        lambda: shared.counts(partition) - before == {"partial": 2, "used": 4, "late": 2}, "both are late"
    )


async def test_one_committed_within_the_deadline_is_in_time(shared: Shared) -> None:
    world, [request_id] = shared.world, ids_of(3, "in-time", 1)
    with transaction(world, "c", 3, [request_id]) as client:
        await world.predict([request_id], "ab")
        await until(lambda: shared.open(3) == 1, "the others are read")
        client.commit_transaction(WITHIN_S)
    assert ends(await world.fused_of([request_id])) == {("complete", None)}
