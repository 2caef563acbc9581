"""Who is waited for, on a real broker: a dead member, a lossy one, one that comes back, and a worker away.

Whether a member is silent is known per partition, so each test takes one of its own.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

import pytest

from stream_ensemble.core.join.progress import SEVERAL
from tests.integration.fuser_world import ids_of, until
from tests.integration.shared_fuser import Shared, ends, shared_fuser

DEADLINE_MS = 500
#: Two deadlines, which is the least.
SILENCE_AFTER_S = 1.0


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def shared(
    runner: asyncio.Runner, kafka_bootstrap: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("fuser")
    with shared_fuser(runner, kafka_bootstrap, redis_url, folder, deadline_ms=DEADLINE_MS) as shared:
        yield shared


async def waits(
    shared: Shared, requests: list[str], members: str
) -> tuple[set[tuple[str, str | None]], float]:
    """How these requests end when these members answer them, and the median time it takes in ms."""
    sent = []
    for request_id in requests:
        for member in members:
            sent.append(
                await shared.world.put(member, request_id, shared.world.prediction(request_id, member))
            )
    appended = [await one for one in sent][len(members) - 1 :: len(members)]
    fused = await shared.world.fused_of(requests)
    times = [fused[r].timestamp - last.timestamp for r, last in zip(requests, appended, strict=True)]
    return ends(fused), statistics.median(times)


async def test_a_dead_member_costs_one_silence_window_and_is_waited_for_again_from_its_first_record(
    shared: Shared,
) -> None:
    requests = iter(ids_of(0, "dead", 100))

    def some(count: int) -> list[str]:
        return [next(requests) for _ in range(count)]

    assert (await waits(shared, some(2), "abc"))[0] == {("complete", None)}
    ways, took = await waits(shared, some(SEVERAL), "ab")
    assert ways == {("partial", "deadline")}
    assert took >= DEADLINE_MS
    await until(lambda: shared.silent("c", 0), "it is known to be silent", 10 * SILENCE_AFTER_S)
    before = shared.counts(0)
    without = some(20)
    ways, took = await waits(shared, without, "ab")
    assert ways == {("partial", "silent")}
    assert took < DEADLINE_MS / 2
    assert shared.counts(0) - before == {"partial": 20, "used": 40}
    # Back at its first record, even one that comes for a request answered without it.
    await shared.world.predict(without[:1], "c")
    await until(lambda: not shared.silent("c", 0), "it is awaited again")
    ways, took = await waits(shared, some(1), "ab")
    assert ways == {("partial", "deadline")}
    assert took >= DEADLINE_MS


async def test_one_that_misses_a_hundredth_of_its_deadlines_stays_awaited(shared: Shared) -> None:
    world, partition = shared.world, 1
    requests = ids_of(partition, "lossy", 5 * 100)
    missed = requests[50::100]
    assert len(missed) > SEVERAL
    loop = asyncio.get_running_loop()
    began = loop.time()
    for begin in range(0, len(requests), 25):
        some = requests[begin : begin + 25]
        await world.predict(some, "ab")
        await world.predict([request_id for request_id in some if request_id not in missed], "c")
        # Spread over three silence windows, in which many a fetch finds c's topic at its end.
        await asyncio.sleep(began + 3 * SILENCE_AFTER_S * (begin + 25) / len(requests) - loop.time())
        assert not shared.silent("c", partition)
    fused = await world.fused_of(requests)
    assert ends({request_id: fused[request_id] for request_id in missed}) == {("partial", "deadline")}
    whole = {request_id: fused[request_id] for request_id in requests if request_id not in missed}
    assert ends(whole) == {("complete", None)}


async def test_our_own_down_time_makes_nobody_silent(shared: Shared) -> None:
    world, partition = shared.world, 2
    requests = iter(ids_of(partition, "away", 50))
    assert (await waits(shared, [next(requests)], "abc"))[0] == {("complete", None)}
    # One miss more and c could be called silent; then the worker sees nothing for two windows.
    missed = [next(requests) for _ in range(SEVERAL)]
    assert (await waits(shared, missed, "ab"))[0] == {("partial", "deadline")}
    asked = [next(requests) for _ in range(20)]
    shared.worker.process.pause()
    try:
        await asyncio.sleep(SILENCE_AFTER_S)
        # c answers while the worker is away, and the others do.
        await world.predict(asked)
        await asyncio.sleep(SILENCE_AFTER_S)
    finally:
        shared.worker.process.resume()
    assert ends(await world.fused_of(asked)) == {("complete", None)}
    assert not shared.silent("c", partition)


async def test_a_worker_that_was_away_looks_at_what_came_meanwhile_before_it_gives_anyone_up(
    shared: Shared,
) -> None:
    world, partition = shared.world, 3
    requests = ids_of(partition, "frozen", 20)
    await world.predict(requests, "ab")
    await until(lambda: shared.open(partition) == len(requests), "the worker has read the others")
    shared.worker.process.pause()
    try:
        # In time by the broker's clock; when the worker goes on, every deadline has passed by its own.
        await world.predict(requests, "c")
        await asyncio.sleep(2 * DEADLINE_MS / 1000)
    finally:
        shared.worker.process.resume()
    assert ends(await world.fused_of(requests)) == {("complete", None)}
