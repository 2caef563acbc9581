"""Tasks whose labels are about parts, with both apps as processes: several true classes, and forecasts.

Parts are labelled before and after their answer, twice, wrongly, corrected, in every form; the learner dies
and Redis is emptied on the way. Each part counts once, and what is live is what the topics say from scratch.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis.asyncio

from stream_ensemble import FeedbackPublisher, FusedConsumer, PredictionPublisher, config
from stream_ensemble.cli.main import main
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.messages import CreditBlock
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from tests.integration.fuser_world import MEMBERS, Worker, World, ids, until
from tests.integration.weights_command import WeightsCommand

PARTS = ["1h", "6h", "24h"]
MANY = config.Task(kind="multilabel", name="scene", classes=PARTS)
AHEAD = config.Task(kind="forecast", name="load", horizons=PARTS, loss="absolute")
SQUARE = config.Task(kind="forecast", name="load", horizons=PARTS, loss="square")
#: How far members are off, in units of the task.
OFF = {"a": 0.05, "b": 0.3, "c": 0.3}


class Case:
    """An ensemble of one kind, its truths, and the labels that count."""

    def __init__(self, world: World, task: config.Task) -> None:
        self.world = world
        self.task = task
        self.rng = np.random.default_rng(5)
        self.truths: dict[str, list[float]] = {}
        self.counted: dict[tuple[str, str], float] = {}
        self.weights: dict[tuple[str, str], float] = {}

    @property
    def name(self) -> str:
        return self.world.settings.app

    def draw(self, request_ids: Iterable[str]) -> None:
        """What will turn out to be true."""
        for request_id in request_ids:
            if self.task.kind == "multilabel":
                self.truths[request_id] = self.rng.integers(0, 2, 3).astype(float).tolist()
            else:
                self.truths[request_id] = (self.rng.normal(0, 1e3, 3)).tolist()

    def outputs(self, request_ids: list[str], member: str) -> np.ndarray:
        truths = np.array([self.truths[request_id] for request_id in request_ids])
        off = OFF[member] * self.rng.uniform(0.5, 1.5, truths.shape)
        if self.task.kind == "multilabel":
            return np.abs(truths - off)
        return truths + 1e3 * off * self.rng.choice([-1.0, 1.0], truths.shape)

    def label(self, value: float) -> bool | float:
        return bool(value) if self.task.kind == "multilabel" else value

    async def ask(self, request_ids: list[str], *, wire: Any = "json", **more: Any) -> None:
        """Every member answers."""
        for member in MEMBERS:
            async with PredictionPublisher(self.world.settings, self.name, member) as publisher:
                outputs = self.outputs(request_ids, member)
                if wire == "json":
                    for request_id, output in zip(request_ids, outputs, strict=True):
                        await publisher.publish(request_id, output, **more)
                else:
                    await publisher.publish_batch(request_ids, outputs, wire=wire)

    def counts(self, request_id: str, part: str, value: float, weight: float = 1.0) -> None:
        self.counted[request_id, part] = value
        self.weights[request_id, part] = weight


async def _labels(case: Case, request_ids: list[str]) -> None:
    """Labels of every form of some requests: each part of them ends with its truth, once."""
    async with FeedbackPublisher(case.world.settings, case.name) as publisher:
        thirds = request_ids[::3], request_ids[1::3], request_ids[2::3]
        for request_id in thirds[0]:
            truth = case.truths[request_id]
            # The far horizon is known later than the near ones, and of one the first word was wrong.
            await publisher.publish(request_id, case.label(1.0 - truth[1]), part="6h")
            await publisher.publish(request_id, case.label(truth[0]), part="1h", weight=2.0)
            await publisher.publish(request_id, case.label(truth[0]), part=0, weight=2.0)
            await publisher.publish(request_id, case.label(truth[1]), part="6h", revision=1)
            case.counts(request_id, "1h", truth[0], 2.0)
            case.counts(request_id, "6h", truth[1])
        for wire, some in (("columns", thirds[1]), ("arrays", thirds[2])):
            rows = [(r, p, case.truths[r][p]) for r in some for p in range(3)]
            await publisher.publish_batch(
                [r for r, _, _ in rows],
                [case.label(value) for *_, value in rows],
                parts=[p if wire == "columns" else PARTS[p] for _, p, _ in rows],
                wire=wire,
            )
            for request_id, part, value in rows:
                case.counts(request_id, PARTS[part], value)


async def _foul(case: Case, request_id: str) -> int:
    """Labels that cannot be used, written by hand; returns how many."""
    label = {"version": 1, "kind": "feedback", "request_id": request_id}
    wrong = [
        {"part": "2h", "label": 1.0}, {"part": 3, "label": 1.0}, {"label": "6h"}, {"part": "6h"},
        {"part": "6h", "label": "1"}, {"part": "6h", "label": None},
        {"part": "6h", "label": 0.5 if case.task.kind == "multilabel" else True},
    ]  # fmt: skip
    for more in wrong:
        await case.world.write(case.world.topics.feedback, request_id, json.dumps(label | more).encode())
    return len(wrong)


async def _check_answers(case: Case, records: dict[str, dict[str, Any]]) -> None:
    """Each answer is what its own components and credit give, part by part."""
    blocks = _blocks(records.values())
    algorithm: Any = make(config.Learning(), case.task, MEMBERS)
    mixture = SegmentMixture(algorithm)
    for record in records.values():
        assert "label" not in record and record["status"] == "complete"
        credit = record["credit"]
        values = credit_block.decode(credit["everywhere"], blocks[credit["everywhere"]])
        for place, found in enumerate(record["output"]):
            outputs = np.array([[_alone(case, record["components"][m][place]) for m in MEMBERS]])
            awake = np.ones((1, 3), np.bool_)
            if "segment" in credit:
                own = credit_block.decode(credit["segment"], blocks[credit["segment"]])
                expected = mixture.fuse(values, own, outputs, awake)
            else:
                expected = algorithm.fuse(values, outputs, awake)
            np.testing.assert_allclose(found, expected[0, -1], rtol=1e-12)


def _alone(case: Case, number: float) -> list[float]:
    return [1.0 - number, number] if case.task.kind == "multilabel" else [number]


def _blocks(records: Iterable[dict[str, Any]]) -> dict[str, CreditBlock]:
    blocks = {}
    for record in records:
        for digest, block in (record["credit"].get("blocks") or {}).items():
            blocks[digest] = CreditBlock(**(block | {"members": tuple(block["members"])}))
    return blocks


def _recomputed(case: Case, records: dict[str, dict[str, Any]]) -> Contribution:
    """What the labels that count teach the whole, one by one, from the fused records alone."""
    blocks = _blocks(records.values())
    algorithm: Any = make(config.Learning(), case.task, MEMBERS)
    part = Contribution(MEMBERS)
    for about, value in sorted(case.counted.items()):
        record, place = records[about[0]], PARTS.index(about[1])
        block = blocks[record["credit"]["everywhere"]]
        one = Labelled(
            np.array([[_alone(case, record["components"][m][place]) for m in MEMBERS]]),
            np.ones((1, 3), np.bool_),
            np.array([int(value) if case.task.kind == "multilabel" else value]),
            np.array([case.weights[about]]),
            float(block.n),
        )
        algorithm.learn(part, credit_block.decode(record["credit"]["everywhere"], block), one)
        part.n += 1
    return part


async def _emptied(case: Case) -> None:
    client = redis.asyncio.Redis.from_url(case.world.settings.redis.url)
    names = [name async for name in client.scan_iter(f"{{{case.name}:*")]
    assert names
    await client.delete(*names)
    await client.aclose()


async def _until_learned(case: Case, weights: WeightsCommand) -> dict[str, Any]:
    """The state of the whole once all labels that count are in it and it is what a recomputation gives."""
    async with asyncio.timeout(60):
        while True:
            ran = await weights("recompute", "--json")
            if ran.code == 0 and ran.json["n"] == len(case.counted):
                return dict(ran.json)
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("task", [MANY, AHEAD, SQUARE], ids=["many classes", "absolute", "square"])
async def test_each_part_is_learned_once_whatever_happens(
    task: config.Task,
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    learning = config.Learning(flush_interval_ms=50)
    world = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, task=task, learning=learning)
    case, weights = Case(world, task), WeightsCommand(world, tmp_path, capfd)
    async with world:
        fuse, learn = world.start(), world.start("learn")
        await world.owning(fuse, learn, partitions=8)
        early, first, late = ids("early", 30), ids("first", 60), ids("late", 60)
        case.draw([*early, *first, *late])
        await _labels(case, early)
        await case.ask(early)
        await case.ask(first, segment="north")
        await world.fused_of([*early, *first])
        await _labels(case, first)
        fouled = await _foul(case, first[0])
        await _until_learned(case, weights)
        learn.process.kill()
        await _emptied(case)
        await case.ask(late, wire="columns")
        await world.fused_of(late)
        await _labels(case, late)
        learn = world.start("learn")
        await world.owning(fuse, learn, partitions=8)
        await _until_learned(case, weights)

        records = {r: json.loads(found.value) for r, found in (await world.fused_of(case.truths)).items()}
        await _check_answers(case, records)
        await _check_whole(case, weights, _recomputed(case, records))
        assert len(await world.dead_letters(fouled)) == fouled
        await _check_preference(case, fuse)
        await _check_audit(case, tmp_path, capfd)
        await _check_reading(case)


async def _check_whole(case: Case, weights: WeightsCommand, expected: Contribution) -> None:
    """What is live is what the topics say from scratch, by the product's own word and by ours."""
    assert (await weights("show", "--json")).json["n"] == expected.n
    settings, key = case.world.settings, Key(case.task.name)
    store = RedisContributionStore(settings.redis, RedisKeys(case.name, case.name))
    try:
        fields = (await store.read([key])).fields[key]
    finally:
        await store.close()
    algorithm: Any = make(config.Learning(), case.task, MEMBERS)
    found = algorithm.merge([from_bytes(stored.value) for _, stored in sorted(fields.items())])
    assert (found.n, found.clock) == (expected.n, expected.clock)
    for name, array in expected.sums.items():
        # The values that were taken back are larger than what is left: rounding has their scale.
        atol = 1e-9 * float(np.abs(array).max())
        np.testing.assert_allclose(found.sums[name], array, rtol=1e-9, atol=atol, err_msg=name)
    for name, array in expected.maxima.items():
        # A value that was taken back has left its regret there, unless it was while it waited.
        assert (found.maxima[name] >= array * (1 - 1e-9)).all(), name


async def _check_preference(case: Case, fuse: Worker) -> None:
    """Who is right is believed."""
    await asyncio.sleep(0.6)
    after = ids("after", 4)
    case.draw(after)
    await case.ask(after)
    for record in (await case.world.fused_of(after)).values():
        weights = json.loads(record.value)["weights"]
        # Of a squared error one mistyped value is remembered long, so not how far.
        assert max(weights, key=weights.get) == "a", weights


async def _check_audit(case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    code = await asyncio.to_thread(main, ["audit", "--config", str(tmp_path / "ensemble.toml"), "--json"])
    said = capfd.readouterr()
    assert code == 0, said
    [report] = json.loads(said.out)["ensembles"]
    assert report["counts"]["labels-learned"] == len(case.counted), report


async def _check_reading(case: Case) -> None:
    """Consumers get outputs without a label; publishers are told what a label lacks."""
    async with FusedConsumer(case.world.settings, case.name, from_beginning=True) as reader:
        async for record in reader:
            assert record.label is None and record.output is not None and len(record.output) == 3
            break
    async with FeedbackPublisher(case.world.settings, case.name) as publisher:
        for label, part, said in (
            (1.0, None, "part: missing; expected one of 1h, 6h, 24h"),
            (1.0, "2h", "part is '2h', expected 0..2 or one of 1h, 6h, 24h"),
            ("x", "1h", "label 'x' of part '1h': expected a number, or true or false"),
        ):
            with pytest.raises(InvalidInputError, match=said):
                await publisher.publish("r", label, part=part)


async def test_a_classification_has_no_parts(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    world = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path)
    async with world, FeedbackPublisher(world.settings, world.settings.app) as publisher:
        with pytest.raises(
            InvalidInputError, match="part 'x': labels of a classification are about the whole"
        ):
            await publisher.publish("r", "x", part="x")
        learn = world.start("learn")
        await world.owning(learn)
        label = {"version": 1, "kind": "feedback", "request_id": "r", "part": "x", "label": True}
        await world.write(world.topics.feedback, "r", json.dumps(label).encode())
        [(_, header)] = await world.dead_letters(1)
        assert header["reason"] == "wrong-field"
        await until(lambda: learn.owned() == 4, "the worker goes on")
