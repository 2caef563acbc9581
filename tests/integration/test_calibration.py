"""Calibration on real servers: answers become as sure as they are right, and say with which temperatures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble import config
from stream_ensemble.core.evaluation.classification import calibration_error
from stream_ensemble.core.learning.calibration import LOSSES, calibrated, calibration_of
from stream_ensemble.core.learning.contribution import Contribution, from_bytes
from stream_ensemble.messages import Calibration
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from tests.integration import learner_world
from tests.integration.fuser_world import CLASSES, MEMBERS, World, ids, until
from tests.integration.test_weights_control import fuser, working
from tests.integration.test_weights_control import until as until_seen
from tests.integration.weights_command import WeightsCommand

ROUND = 120


class Rounds:
    """Requests whose members are all right nine times in ten, and say that it is six times; labelled in
    rounds."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = np.random.default_rng(5)
        self.labelled = self.looks = 0

    async def answered(self, prefix: str) -> tuple[list[dict[str, Any]], list[int]]:
        """A round of requests, answered; and what is true of each."""
        some = ids(prefix, ROUND)
        truths = self.random.integers(0, 3, ROUND).tolist()
        for request_id, truth in zip(some, truths, strict=True):
            said = truth if self.random.random() < 0.9 else (truth + 1) % 3
            for member in MEMBERS:
                noise = 0.1 * self.random.random()
                output = [(0.6 + noise) if c == said else (0.4 - noise) / 2 for c in range(3)]
                await self.world.put(member, request_id, self.world.prediction(request_id, member, output))
        fused = await self.world.fused_of(some)
        return [json.loads(fused[request_id].value) for request_id in some], truths

    async def label(self, answers: Sequence[dict[str, Any]], truths: Sequence[int]) -> None:
        """Their labels, and wait until fusers could know of them."""
        for answer, truth in zip(answers, truths, strict=True):
            record = {"version": 1, "kind": "feedback", "request_id": answer["request_id"], "label": truth}
            await self.world.write(
                self.world.topics.feedback, answer["request_id"], json.dumps(record).encode()
            )
        self.labelled += len(answers)
        async with asyncio.timeout(60):
            while (await self.in_redis()).n < self.labelled:
                self.looks += 1
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)  # a fuser adopts new weights in two looks at most

    async def in_redis(self) -> Contribution:
        settings, name = self.world.settings, self.world.settings.app
        store = RedisContributionStore(settings.redis, RedisKeys(name, name))
        try:
            snapshot = await store.read([Key("class")])
        finally:
            await store.close()
        parts = [from_bytes(stored.value) for _, stored in sorted(snapshot.fields[Key("class")].items())]
        whole = Contribution(MEMBERS)
        whole.n = sum(part.n for part in parts)
        taught = [part.sums[LOSSES] for part in parts if LOSSES in part.sums]
        if taught:
            whole.sums[LOSSES] = np.sum(taught, axis=0)
        return whole


def error(answers: Sequence[dict[str, Any]], truths: Sequence[int]) -> float:
    return calibration_error(np.array([answer["output"] for answer in answers]), np.array(truths))


def means(answers: Sequence[dict[str, Any]]) -> np.ndarray:
    """What the weights named in the answers make of the members' outputs."""
    return np.array(
        [
            sum(
                weight * np.array(answer["components"][member])
                for member, weight in answer["weights"].items()
            )
            for answer in answers
        ]
    )


async def test_the_calibration_error_falls_and_the_credit_names_the_temperatures(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    learning = config.Learning(algorithm="ml_poly", calibration=True, flush_interval_ms=50)
    world = World(
        kafka_bootstrap,
        redis_url,
        ensemble_name,
        tmp_path,
        learning=learning,
        deadline_ms=20_000,
    )
    async with world:
        fuse, learn = world.start(), world.start("learn")
        await world.owning(fuse, learn, partitions=8)
        rounds = Rounds(world)
        answers, truths = await rounds.answered("before")
        assert all("calibration" not in answer["credit"] for answer in answers)
        before = error(answers, truths)
        assert before > 0.15
        await rounds.label(answers, truths)
        for n in range(3):
            answers, truths = await rounds.answered(f"round-{n}")
            await rounds.label(answers, truths)
        answers, truths = await rounds.answered("after")
        assert error(answers, truths) < 0.5 * before
        by = msgspec.convert(answers[-1]["credit"]["calibration"], Calibration)
        assert all(msgspec.convert(a["credit"]["calibration"], Calibration) == by for a in answers)
        # The temperatures are those of all labels so far, and what they made of the mean can be told from it.
        learned = calibration_of(await rounds.in_redis())
        assert learned is not None
        np.testing.assert_allclose(by.confidence, learned.confidence, rtol=1e-9)
        expected = calibrated(means(answers), by)
        np.testing.assert_allclose([answer["output"] for answer in answers], expected, rtol=1e-9, atol=1e-12)
        assert [answer["label"] for answer in answers] == [CLASSES[c] for c in means(answers).argmax(axis=1)]
        await until(
            lambda: abs(fuse.metric("stream_ensemble_temperature", of="0") - by.confidence[1]) < 1e-9,
            "the metric of the temperature",
        )


async def test_commands_show_keep_pin_and_recompute_the_temperatures(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    world = learner_world.World(
        kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2, calibration=True
    )
    weights = WeightsCommand(world, tmp_path, capfd)
    async with world, working(world), fuser(world.settings, world.name) as view:

        async def label_all(some: list[str], *, corrected: int = 0) -> None:
            n = view.current().version.n
            await world.fused(*some)
            for request_id, name in learner_world.names(some):
                await world.label(request_id, name)
            for request_id in some[:corrected]:
                await world.label(request_id, "z", revision=1)
            await until_seen(lambda: view.current().version.n == n + len(some))

        await label_all(learner_world.ids(60), corrected=7)
        assert (await weights("recompute", "--json")).json["differences"] == []
        kept = view.current().calibration
        assert kept is not None
        shown = await weights("show", "--json")
        assert msgspec.convert(shown.json["calibration"], Calibration) == kept
        table = (await weights("show")).out
        assert "temperatures the fused output is calibrated with" in table
        assert f"{kept.rest:.3f}" in table
        (tmp_path / "kept.json").write_text(shown.out)
        await label_all(learner_world.ids(60, "more"))
        assert view.current().calibration != kept
        assert (await weights("pin", "--from", str(tmp_path / "kept.json"))).code == 0
        await until_seen(lambda: view.current().pins is not None and view.current().pins.of(None) is not None)
        pins = view.current().pins
        held = pins and pins.of(None)
        assert held
        assert held.calibration == kept
        # Learning goes on beneath, and a reset forgets the temperatures too.
        await label_all(learner_world.ids(20, "beneath"))
        assert (await weights("recompute", "--json")).json["differences"] == []
        assert (await weights("reset")).code == 0
        await until_seen(lambda: view.current().version.generation == 1)
        assert view.current().calibration is None
        assert (await weights("show", "--json")).json["calibration"] is None
