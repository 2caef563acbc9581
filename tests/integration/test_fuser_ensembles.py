"""Several ensembles in one worker and one settings file: what happens in one is no business of the other."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from stream_ensemble import config
from tests.integration.fuser_world import CLASSES, MEMBERS, OUTPUT, PARTITIONS, Worker, World, ids, until

PRIOR = [0.75, 0.25]
DEAD_LETTERS: list[tuple[str, bytes | None]] = [
    ("empty-value", None),
    ("empty-value", b""),
    ("not-json", b"nonsense"),
]


def asked(request_id: str) -> bytes:
    return json.dumps({"version": 1, "kind": "request", "request_id": request_id}).encode()


class Counts:
    """What the worker counts of one ensemble."""

    def __init__(self, worker: Worker, ensemble: str) -> None:
        self.worker = worker
        self.ensemble = ensemble

    def __call__(self, name: str, **labels: Any) -> float:
        return self.worker.metric(f"stream_ensemble_{name}", ensemble=self.ensemble, **labels)


async def test_each_has_its_own_topics_deadline_task_and_dead_letters(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    quick_name = f"{ensemble_name}.quick"
    quick_settings = config.Ensemble(
        members=["a", "b"],
        task=config.Task(classes=["yes", "no"]),
        partitions=PARTITIONS,
        deadline_ms=200,
        quorum=2,
        prior=PRIOR,
    )
    async with World(
        kafka_bootstrap,
        redis_url,
        ensemble_name,
        tmp_path,
        deadline_ms=60_000,
        beside={quick_name: quick_settings},
    ) as slow:
        quick = slow.of(quick_name)
        worker = slow.start()
        await slow.owning(worker, partitions=2 * PARTITIONS)
        slow_counts, quick_counts = Counts(worker, ensemble_name), Counts(worker, quick_name)
        requests = ids("r", 8)
        # The same ids in both; c is missing in the one, b in the other.
        await slow.predict(requests, "ab")
        sent = []
        for request_id in requests:
            sent.append(await quick.put("a", request_id, quick.prediction(request_id, "a", [0.1, 0.9])))
        # Tombstones, empty values and nonsense, among predictions and among requests.
        bad: list[tuple[str, str | None, bytes | None]] = []
        for n, (_, value) in enumerate(DEAD_LETTERS):
            for topic in (quick.topics.predictions[0], quick.topics.requests):
                bad.append((topic, f"bad-{n}", value))
                sent.append(await quick.write(*bad[-1]))
        # Three numbers are an output there, and none here.
        bad.append((quick.topics.predictions[1], requests[0], quick.prediction(requests[0], "b", OUTPUT)))
        sent.append(await quick.write(*bad[-1]))
        sent.append(await quick.write(quick.topics.requests, "asked", asked("asked")))
        await asyncio.gather(*sent)
        # aiokafka refuses to write nothing at all; others do not.
        bad.append((quick.topics.predictions[1], None, None))
        client = Producer({"bootstrap.servers": kafka_bootstrap})
        client.produce(quick.topics.predictions[1], None, None, partition=0)
        assert client.flush(30) == 0

        answered = await quick.fused(len(requests) + 1)
        assert {(one["status"], one["cause"]) for one in answered.values()} == {("fallback", "deadline")}
        assert {(tuple(one["output"]), one["label"]) for one in answered.values()} == {(tuple(PRIOR), "yes")}
        dead = await quick.dead_letters(len(bad))
        found = [
            (header["topic"], record.key and record.key.decode(), record.value) for record, header in dead
        ]
        assert sorted(found, key=repr) == sorted(bad, key=repr)
        reasons = [reason for reason, _ in DEAD_LETTERS for _ in range(2)] + ["wrong-length", "empty-value"]
        assert sorted(header["reason"] for _, header in dead) == sorted(reasons)

        assert slow_counts("open_requests") == len(requests)
        await slow.predict(requests, "c")
        whole = await slow.fused(len(requests))
        assert {(one["status"], one["label"]) for one in whole.values()} == {("complete", CLASSES[0])}
        assert whole["r-00000"]["output"] == pytest.approx(OUTPUT)
        await until(lambda: quick_counts("predictions_total", fate="dead_lettered") == 5, "counted")
        assert slow_counts("predictions_total", fate="dead_lettered") == 0
        assert slow_counts("predictions_total", fate="used") == len(requests) * len(MEMBERS)
        assert quick_counts("predictions_total", fate="used") == len(requests)
        assert worker.metric("stream_ensemble_ledger_difference") == 0
        assert not await slow.standing(slow.topics.dead_letter)
