"""The guardrail on real servers: uniform weights while the learned ones do worse, and back."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_ensemble.config import Guardrail
from stream_ensemble.core.learning import credit_block
from tests.integration.learner_world import MEMBERS, World, ids
from tests.integration.test_weights_control import fuser, pinned, until, working
from tests.integration.weights_command import WeightsCommand

#: All weight on member a, as learned when it was good.
DIGEST, BLOCK = credit_block.encode("ml_poly", 0, 40, MEMBERS, np.array([1.0, 0.0, 0.0]))
CREDIT = {"everywhere": DIGEST, "blocks": {DIGEST: msgspec.to_builtins(BLOCK)}}


async def answered(world: World, count: int, a: list[float], others: list[float]) -> None:
    """Requests for which a, on which all weight is, said one thing and the others another; x was true."""
    some = ids(count)
    components = {"a": a, "b": others, "c": others}
    for request_id in some:
        await world.fused(request_id, credit=CREDIT, components=components)
        await world.label(request_id, "x")


async def test_it_switches_to_uniform_and_back_and_the_operator_comes_first(
    kafka_bootstrap: str,
    redis_url: str,
    ensemble_name: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    guardrail = Guardrail(enabled=True, half_life=40.0, least_labels=20.0)
    world = World(kafka_bootstrap, redis_url, ensemble_name, tmp_path, partitions=2, guardrail=guardrail)
    weights = WeightsCommand(world, tmp_path, capfd)
    good, bad = [0.8, 0.1, 0.1], [0.1, 0.8, 0.1]
    async with world, working(world) as owned, fuser(world.settings, world.name) as view:
        await answered(world, 30, bad, good)
        await until(lambda: pinned(view) is not None)
        held = pinned(view)
        assert held is not None
        assert held.values.tolist() == [1.0, 1.0, 1.0]
        assert "pinned by the guardrail" in (await weights("list")).out
        guard = owned[0].partition.guard
        assert guard is not None
        assert guard.judged is not None
        assert guard.judged.learned > guard.judged.uniform
        # Its own mixture is judged on, though uniform weights are issued: a is right again.
        await answered(world, 150, good, bad)
        await until(lambda: pinned(view) is None)
        (tmp_path / "mine.json").write_text(json.dumps({"b": 1.0}))
        assert (await weights("pin", "--from", str(tmp_path / "mine.json"))).code == 0
        await until(lambda: pinned(view) is not None)
        await answered(world, 250, bad, good)
        states = [owner.partition.standing for owner in owned]
        await until(
            lambda: any(
                pin.by == "guardrail" and pin.pinned is not None
                for owner in owned
                for pin in owner.partition.standing.controls.pins
            )
        )
        held = pinned(view)
        assert held is not None
        assert held.values.tolist() == [0.0, 1.0, 0.0]
        assert states[0].controls.number >= 3
        assert (await weights("recompute", "--json")).json["differences"] == []
