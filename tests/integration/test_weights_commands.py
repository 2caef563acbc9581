"""`stream-ensemble weights` on real servers: what is shown is what stands, and what is wrong is named."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis.asyncio
from aiokafka import TopicPartition

from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.stores.contribution_field import encode_field
from stream_ensemble.stores.contributions import Key, Order
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.stores.weights_topic import decode_weights, encode_key, encode_weights
from stream_ensemble.stores.weights_view import view_of
from tests.integration.learner_world import MEMBERS, Owner, World, ids, names
from tests.integration.weights_command import WeightsCommand

PARTITIONS = 2
WHOLE = Key("class")


@pytest.fixture
def world(kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path) -> World:
    return World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=PARTITIONS)


@pytest.fixture
def weights(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> WeightsCommand:
    return WeightsCommand(world, tmp_path, capfd)


async def owners(world: World, stack: AsyncExitStack) -> list[Owner]:
    """An owner of each partition."""
    return [await stack.enter_async_context(world.owner(p, host=f"host{p}")) for p in range(world.partitions)]


async def learned(world: World, some: list[str]) -> None:
    """Requests, their labels in all the ways labels come, learned and published; the owners then leave."""
    async with AsyncExitStack() as stack:
        owned = await owners(world, stack)
        await world.fused(*some)
        for request_id, name in names(some):
            await world.label(request_id, name)
        for owner in owned:
            await owner.catch_up()
        for request_id, name in names(some[1::3]):
            await world.label(request_id, name, revision=1, weight=2.0)
        early = ids(4, "early")
        for request_id, name in names(early):
            await world.label(request_id, name)
        await world.label(some[0], "no such class")
        for owner in owned:
            await owner.catch_up()
        await world.fused(*early)
        for owner in owned:
            await owner.catch_up()
            await owner.close()


async def contribution(world: World, p: int) -> tuple[Order, bytes]:
    """The newest weights record of partition p."""
    found = [record for record in await world.read(world.topics.weights) if record.partition == p]
    return decode_weights(found[-1].value)[1], found[-1].value


async def in_topic(world: World) -> list[Contribution]:
    """The contributions in the weights topic, in order of the partitions."""
    return [decode_weights((await contribution(world, p))[1])[3] for p in range(world.partitions)]


async def test_list_and_show_say_what_a_fuser_fuses_with(world: World, weights: WeightsCommand) -> None:
    async with world:
        nothing = await weights("list", "--json")
        assert (nothing.code, [row["n"] for row in nothing.json["keys"]]) == (0, [0])
        await learned(world, ids(30))
        listed = await weights("list", "--json")
        (row,) = listed.json["keys"]
        view = view_of(world.settings, world.name)
        await view.start()
        snapshot = view.current()
        await view.stop()
        assert (row["key"], row["n"], row["version"]) == ("class", 34, snapshot.version.digest)
        assert row["complete"] is True
        assert 0 <= row["age_s"] < 60
        shown = (await weights("show", "--json")).json
        pooled = world.ensemble().algorithm.pool(snapshot.values, np.ones((1, 3), np.bool_))[0]
        assert shown["weights"] == dict(zip(MEMBERS, pooled.tolist(), strict=True))
        assert msgspec.convert(shown["credit"], type(snapshot.block)) == snapshot.block
        whole = world.ensemble().algorithm.merge(await world.in_redis())
        standing = shown["arms"]["all"]["members"]
        assert [standing[name]["R"] for name in MEMBERS] == whole.sums["R"].tolist()
        table = (await weights("show", "class")).out
        assert all(f"{weight:.4f}" in table for weight in pooled)
        words = (await weights("list")).out
        assert "complete" in words
        assert "34" in words


async def test_what_was_not_learned_or_is_not_there_is_one_line(
    world: World, weights: WeightsCommand
) -> None:
    missing = await weights("list")
    assert missing.code == 1
    assert f"topic {world.topics.weights} does not exist" in missing.err
    async with world:
        segment = await weights("show", "class/north")
        assert (segment.code, segment.err) == (
            1,
            "stream-ensemble: nothing was learned for class/north; there are class\n",
        )
        task = await weights("show", "other")
        assert task.code == 2
        assert "the task of ensemble" in task.err


async def test_diff_names_each_field_that_redis_lacks(world: World, weights: WeightsCommand) -> None:
    async with world:
        await learned(world, ids(20))
        same = await weights("diff", "--json")
        assert (same.code, same.json["same"]) == (0, True)
        client = redis.asyncio.Redis.from_url(world.settings.redis.url)
        await client.hdel(RedisKeys(world.name, world.name).weights(WHOLE), "1")
        await client.aclose()
        differs = await weights("diff", "--json")
        assert differs.code == 1
        (row,) = differs.json["differences"]
        order, _ = await contribution(world, 1)
        assert (row["key"], row["partition"], row["redis"]) == ("class", 1, "missing")
        assert row["topic_order"] == list(order)
        algorithm = world.ensemble().algorithm
        both, one = (await in_topic(world)), await world.in_redis()
        pooled = [
            algorithm.pool(algorithm.credit(algorithm.merge(parts)), np.ones((1, 3), np.bool_))
            for parts in (both, one)
        ]
        assert (len(both), len(one)) == (2, 1)
        assert differs.json["largest_weight_difference"]["class"] == np.abs(pooled[0] - pooled[1]).max()
        assert "missing" in (await weights("diff")).out
        listed = (await weights("list", "--json")).json["keys"][0]
        assert (listed["complete"], listed["lacking"]) == (False, {"1": "missing"})


async def test_diff_since_shows_how_the_weights_moved(
    world: World, weights: WeightsCommand, tmp_path: Path
) -> None:
    async with world:
        await learned(world, ids(20))
        kept = tmp_path / "kept.json"
        kept.write_text((await weights("show", "--json")).out)
        await learned(world, ids(20, "more"))
        now = (await weights("show", "--json")).json
        moved = (await weights("diff", "--since", str(kept), "--json")).json
        before = json.loads(kept.read_text())
        for member in MEMBERS:
            expected = now["weights"][member] - before["weights"][member]
            assert moved["members"][member]["difference"] == expected
        assert (moved["other_n"], moved["n"]) == (24, 48)


async def test_recompute_agrees_with_what_is_live(world: World, weights: WeightsCommand) -> None:
    async with world:
        await learned(world, ids(40))
        ran = await weights("recompute", "--json")
        assert ran.json["differences"] == []
        assert (ran.code, ran.json["same"], ran.json["n"]) == (0, True, 44)
        assert await world.check_against_topics(ignore=lambda label: label == "no such class") == 44
        assert "the weights topic and Redis hold just that" in (await weights("recompute")).out


async def test_recompute_names_the_first_number_of_the_weights_topic_that_is_wrong(
    world: World, weights: WeightsCommand
) -> None:
    async with world:
        await learned(world, ids(30))
        order, value = await contribution(world, 1)
        key, _, algorithm, part = decode_weights(value)
        # Far below anything that could be seen in the weights, far above rounding.
        part.sums["R"][1] *= 1 + 1e-9
        tampered = encode_weights(key, 1, order._replace(sequence=order.sequence + 1), algorithm, part)
        topic = TopicPartition(world.topics.weights, 1)
        await world.write(topic.topic, encode_key(key).decode(), tampered, partition=1)
        ran = await weights("recompute", "--json", "--wait", "0.5")
        assert ran.code == 1
        first = ran.json["differences"][0]
        assert (first["key"], first["partition"], first["where"]) == ("class", 1, "weights topic")
        assert first["what"] == "R of b"
        words = await weights("recompute", "--wait", "0.5")
        assert words.code == 1
        assert "DIFFERENT: weights topic, key class, partition 1: R of b is " in words.out


async def test_recompute_names_what_redis_holds_wrong(world: World, weights: WeightsCommand) -> None:
    async with world:
        await learned(world, ids(30))
        order, value = await contribution(world, 0)
        _, _, _, part = decode_weights(value)
        part.sums["R"][0] = np.nextafter(part.sums["R"][0], np.inf)
        client = redis.asyncio.Redis.from_url(world.settings.redis.url)
        name = RedisKeys(world.name, world.name).weights(WHOLE)
        await client.hset(name, "0", encode_field(WHOLE, 0, order, to_bytes(part)))
        ran = await weights("recompute", "--json", "--wait", "0.5")
        (found,) = ran.json["differences"]
        assert (ran.code, found["where"], found["partition"], found["what"]) == (1, "redis", 0, "bytes")
        await client.hdel(name, "0")
        await client.aclose()
        ran = await weights("recompute", "--json", "--wait", "0.5")
        (found,) = ran.json["differences"]
        assert (ran.code, found["where"], found["live"]) == (1, "redis", "missing")


async def test_recompute_agrees_while_labels_go_on_coming(world: World, weights: WeightsCommand) -> None:
    async with world, AsyncExitStack() as stack:
        owned = await owners(world, stack)
        some = ids(400)
        await world.fused(*some)

        async def go_on() -> None:
            for request_id, name in names(some):
                await world.label(request_id, name)
                for owner in owned:
                    await owner.catch_up()
                await asyncio.sleep(0.1)

        going = asyncio.create_task(go_on())
        try:
            seen = []
            for _ in range(2):
                ran = await weights("recompute", "--json")
                assert ran.code == 0, ran
                seen.append(ran.json["n"])
        finally:
            going.cancel()
            await asyncio.wait([going])
        assert seen[1] > seen[0], seen
