"""Labels without a value: nothing to learn from, and nothing that stops the others."""

from __future__ import annotations

from pathlib import Path

from confluent_kafka import Producer

from tests.integration.learner_world import World, ids, names


async def test_a_tombstone_among_labels_is_dead_lettered_and_takes_nothing_back(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    world = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path)
    async with world, world.owner() as owner:
        requests = ids(4)
        await world.fused(*requests)
        for request_id, name in names(requests):
            await world.label(request_id, name)
            await world.write(world.topics.feedback, request_id, None)
        # aiokafka refuses to write nothing at all; others do not.
        client = Producer({"bootstrap.servers": kafka_bootstrap})
        client.produce(world.topics.feedback, None, None, partition=0)
        assert client.flush(30) == 0
        await owner.catch_up()
        assert owner.partition.standing.learned.by_segment[None].n == len(requests)
        dead = await world.dead()
        assert [reason for reason, _ in dead] == ["empty-value"] * (len(requests) + 1)
        assert {record.value for _, record in dead} == {None}
        keys = [record.key for _, record in dead]
        assert sorted(keys, key=repr) == sorted([*(r.encode() for r in requests), None], key=repr)
