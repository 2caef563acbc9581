"""The whole matrix of bad input through running workers: each bad record is in dead-letter and named, each
good one beside it is answered and learned, and the ledger balances.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stream_ensemble import config
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.messages import HEADER_DEAD_LETTER
from tests.bad_input import (
    ODD_NAMES,
    Bad,
    Headers,
    feedback,
    good_predictions,
    labels,
    predictions,
    requests,
)
from tests.integration.fuser_world import MEMBERS, PARTITIONS, Worker, World, ids, until

Places = dict[tuple[str, int, int], Bad]


async def put(world: World, topic: str, records: Sequence[Any], *, alone: bool) -> Places:
    """Publish records, together or one after the other; returns where the bad ones are."""
    sent = []
    for n, (one, key, value, headers) in enumerate(records):
        partition = partition_of(key, PARTITIONS) if one is None else n % PARTITIONS
        if one is not None and one.key == b"r" and "forwarded" not in one.what:
            partition = partition_of(b"r", PARTITIONS)
        future = await world._producer.send(topic, value, key, partition=partition, headers=headers)
        if alone:
            await future
        sent.append((one, future))
    found: Places = {}
    for one, future in sent:
        at = await future
        if one is not None:
            found[topic, at.partition, at.offset] = one
    return found


def mixed(bad: Sequence[Bad], good: Sequence[tuple[bytes, bytes, Headers]]) -> list[Any]:
    """Bad and good ones by turns."""
    records: list[Any] = [(one, one.key, one.value, one.headers) for one in bad]
    for place, (key, value, headers) in enumerate(good):
        records.insert(2 * place, (None, key, value, headers))
    return records


async def dead_letters(world: World, count: int) -> list[tuple[Any, dict[str, Any]]]:
    """All dead letters once they are ``count`` places."""
    found: dict[tuple[str, int, int, int], Any] = {}
    with suppress(TimeoutError):
        async with world._reading(world.topics.dead_letter) as records:
            async for record in records:
                said = json.loads(dict(record.headers)[HEADER_DEAD_LETTER])
                found[said["topic"], said["partition"], said["offset"], said.get("row", 0)] = record, said
                if len({place[:3] for place in found}) == count:
                    break
    return list(found.values())


def check_named(found: Sequence[tuple[Any, dict[str, Any]]], bad: Places) -> None:
    """Each bad record is among the dead letters, as it was, with a reason that names what is wrong."""
    places = {(said["topic"], said["partition"], said["offset"]) for _, said in found}
    assert places == bad.keys(), {bad[place].what for place in bad.keys() - places}
    for record, said in found:
        one = bad[said["topic"], said["partition"], said["offset"]]
        assert one.names in f"{said['reason']}: {said['detail']}", (one.what, said)
        if record.value is not None and b'"request_ids"' not in record.value:
            assert record.value == one.value, one.what
            assert record.key == one.key, one.what
        given = [(name, content) for name, content in record.headers if name != HEADER_DEAD_LETTER]
        assert given == one.headers or "predictions" in one.what or "feedbacks" in one.what, one.what


async def test_every_bad_record_is_named_in_dead_letter_and_every_good_one_is_answered_and_learned(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    learning = config.Learning(algorithm="ml_poly", segments=100)
    async with World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=20_000, learning=learning
    ) as world:
        fuser, learner = world.start(), world.start("learn")
        await world.owning(fuser)
        await world.owning(learner)
        topics = world.topics
        assert topics.requests is not None
        names = [*ids("plain", 40), *ODD_NAMES, "\U0001f600" * 256]
        bad: Places = {}
        for member, topic in zip(MEMBERS, topics.predictions, strict=True):
            good = [(name.encode(), *one) for name in names for one in good_predictions(name, member)[-1:]]
            bad |= await put(world, topic, mixed(predictions(member), good), alone=member == "a")
        odd = [*ids("odd", 4)]
        for member, topic in zip(MEMBERS, topics.predictions, strict=True):
            for name, one in zip(odd, good_predictions("@", member), strict=False):
                value = one[0].replace(b'"@"', json.dumps(name).encode())
                await put(world, topic, [(None, name.encode(), value, one[1])], alone=True)
        asked = [
            (name.encode(), _asked(name, segment), [])
            for name, segment in zip(names, ODD_NAMES, strict=False)
        ]
        bad |= await put(world, topics.requests, mixed(requests(), asked), alone=False)
        answers = await world.fused(len(names) + len(odd))
        assert {one["status"] for one in answers.values()} == {"complete"}
        said = [(name.encode(), json.dumps(feedback(name)).encode(), []) for name in answers]
        bad |= await put(world, topics.feedback, mixed(labels(), said), alone=False)
        found = await dead_letters(world, len(bad))
        check_named(found, bad)
        await until(lambda: learned(learner) == len(answers), "all labels are learned")
        assert fuser.metric("stream_ensemble_ledger_difference") == 0
        assert fuser.owned() == learner.owned() == PARTITIONS


def _asked(name: str, segment: str) -> bytes:
    tree = {"version": 1, "kind": "request", "request_id": name, "segment": segment, "features": [[[1e308]]]}
    return json.dumps(tree | {"at": int(time.time() * 1000)}).encode()


def learned(worker: Worker) -> float:
    return worker.metric("stream_ensemble_labels_learned")
