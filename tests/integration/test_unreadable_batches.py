"""Batches that a real broker takes and nobody of us can read: named in dead-letter, and no worker ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiokafka.codec import zstd_encode

from stream_ensemble.cli.main import main
from stream_ensemble.settings_file import dump
from tests.integration.fuser_world import MEMBERS, World, ids_of, until
from tests.property.test_unreadable_batches import LET_THROUGH
from tests.raw_records import ZSTD, append, batch, record

PARTITION = 1
UNREADABLE = [
    *(batch(payload, 2, codec) for payload, codec, _ in LET_THROUGH.values()),
    batch(zstd_encode(record(0, b"r", bytes(300 << 20))), 1, ZSTD),
]


async def spoil(world: World, topic: str) -> list[tuple[int, bytes]]:
    """Append all that cannot be read; returns the offset of each with its bytes."""
    counts = [int.from_bytes(raw[57:61], "big") for raw in UNREADABLE]
    return [
        (await append(world._producer, topic, PARTITION, raw, count), raw)
        for raw, count in zip(UNREADABLE, counts, strict=True)
    ]


def odd_header(key: str, value: bytes) -> bytes:
    """A record that can be read, although the name of a header is no text."""
    return batch(record(0, key.encode(), value, [(b"\xff\xfe", b"x")]), 1)


async def audited(file: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The report once nothing is held any more."""
    async with asyncio.timeout(60):
        while True:
            capfd.readouterr()
            code = await asyncio.to_thread(main, ["audit", "--config", str(file), "--json"])
            (report,) = json.loads(capfd.readouterr().out)["ensembles"]
            counts = report["counts"]
            if code == 0 and not counts.get("held") and not counts.get("labels-held"):
                return dict(report)
            await asyncio.sleep(0.5)


async def test_they_are_dead_lettered_whole_and_everything_else_is_answered_and_learned(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, deadline_ms=3000) as world:
        fuser, learner = world.start(), world.start("learn")
        await world.owning(fuser)
        await world.owning(learner)
        topics = world.topics
        before, after = ids_of(PARTITION, "before", 5), ids_of(PARTITION, "after", 5)
        odd = ids_of(PARTITION, "odd", 1)[0]
        await world.predict(before)
        spoiled = {topic: await spoil(world, topic) for topic in (topics.predictions[0], topics.feedback)}
        assert topics.requests is not None
        spoiled[topics.requests] = await spoil(world, topics.requests)
        for member in MEMBERS:
            raw = odd_header(odd, world.prediction(odd, member))
            await append(world._producer, topics.predictions[MEMBERS.index(member)], PARTITION, raw, 1)
        await world.predict(after)
        fused = await world.fused(11)
        assert {answer["status"] for answer in fused.values()} == {"complete"}
        for request_id in fused:
            label = {"version": 1, "kind": "feedback", "request_id": request_id, "label": "x"}
            raw = odd_header(request_id, json.dumps(label).encode())
            await append(world._producer, topics.feedback, PARTITION, raw, 1)
        found = await world.dead_letters(3 * len(UNREADABLE))
        await until(
            lambda: learner.metric("stream_ensemble_labels_learned") == len(fused), "all labels are learned"
        )
        assert fuser.metric("stream_ensemble_ledger_difference") == 0
        assert fuser.metric("stream_ensemble_predictions_total", fate="dead_lettered") == len(UNREADABLE)
        file = tmp_path / "audited.toml"
        file.write_text(dump(world.settings))
        report = await audited(file, capfd)
        log = fuser.process.output()
    assert {said["reason"] for _, said in found} == {"unreadable-batch"}
    places = {(said["topic"], said["partition"], said["offset"]): one.value for one, said in found}
    expected = {(t, PARTITION, offset): raw for t, some in spoiled.items() for offset, raw in some}
    assert places.keys() == expected.keys()
    for place, raw in expected.items():
        # The broker sets offset, epoch, time and with them the checksum; the rest is as it came.
        assert places[place][61:] == raw[61 : 64 << 10], place
    assert report["counts"]["dead-lettered"] == len(UNREADABLE)
    assert "have these records published again" in log
