"""One owner looks at the records of shadows and admits by control records, each once."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_ensemble.config import Admission, Ensemble, Learning, Settings, Task
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.control import NOTHING, applied
from stream_ensemble.core.learning.trial import FRACTIONS
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.learner.admitter import Admitter, admits
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble
from stream_ensemble.messages import Control, ControlState
from stream_ensemble.stores.contributions import Change, Key, Marker, Order
from stream_ensemble.stores.control_state import CONTROLS, encode_state
from stream_ensemble.stores.memory_contributions import MemoryContributionStore

RULE = Admission(share=0.2, least_labels=100.0, error=0.01, warm_labels=300.0)


def ensemble(rule: Admission = RULE, shadows: tuple[str, ...] = ("s", "t")) -> LearnedEnsemble:
    settings = Settings(
        ensembles={
            "e": Ensemble(
                members=["a", "b"],
                shadows=list(shadows),
                task=Task(classes=["x", "y"]),
                partitions=2,
                learning=Learning(admission=rule),
            )
        }
    )
    return learned_ensemble(settings, "e", group_id="g", data_dir=Path())


class World:
    """Two owners' Redis in memory, and the admitter."""

    def __init__(self, rule: Admission = RULE) -> None:
        self.store = MemoryContributionStore()
        self.admitter = Admitter(ensemble(rule), self.store)
        self.sequence = 0

    async def scored(
        self,
        partition: int,
        labels: tuple[float, float],
        evidence: tuple[float, float],
        *,
        state: ControlState = NOTHING,
        members: tuple[str, ...] = ("a", "b", "s", "t"),
        generation: int = 0,
    ) -> None:
        """What partition p scored of s and t, under whatever order of members it knows."""
        self.sequence += 1
        order = Order(generation, 1, self.sequence)
        part = Contribution(members)

        def by_member(s: float, t: float) -> np.ndarray:  # type: ignore[type-arg]
            return np.array([{"s": s, "t": t}.get(name, 0.0) for name in members])

        part.sums = {f"trial@0.2/{of}": by_member(0.5, 0.5) for of in ("own", "mixture", "gain")}
        part.sums["trial@0.2/n"] = by_member(*labels)
        part.sums |= {f"trial@0.2/bet{i}": by_member(*map(math.log, evidence)) for i in range(len(FRACTIONS))}
        changes = [Change(Key("class"), order, to_bytes(part)), Change(CONTROLS, order, encode_state(state))]
        await self.store.publish(partition, changes)
        await self.store.mark(partition, Marker(order, complete=True))

    async def sent(self) -> list[Control]:
        """Look, and what is sent by it, the same to both partitions."""
        await self.admitter.look()
        out = self.admitter.orders()
        assert self.admitter.orders() == []
        by_partition: list[list[bytes | None]] = [
            [o.value for o in out if o.tp.partition == p] for p in (0, 1)
        ]
        assert by_partition[0] == by_partition[1]
        assert {o.tp.topic for o in out} <= {"e.feedback"}
        return [msgspec.json.decode(value or b"", type=Control) for value in by_partition[0]]


async def test_it_admits_by_what_all_partitions_together_say_whatever_order_they_know_members_in() -> None:
    world = World()
    await world.scored(0, (60.0, 500.0), (20.0, 0.5))
    assert await world.sent() == []
    await world.scored(1, (39.0, 500.0), (6.0, 0.5), members=("t", "s", "gone"))
    # Evidence enough, labels not.
    assert await world.sent() == []
    await world.scored(1, (40.0, 500.0), (6.0, 0.5), members=("t", "s", "gone"))
    [control] = await world.sent()
    assert (control.action, control.member, control.by, control.number) == ("admit", "s", "admission", 1)
    assert (control.share, control.labels, control.generation) == (0.2, 300.0, 0)
    found = world.admitter.records["s"]
    assert found is not None
    assert (found.labels, found.evidence) == (100.0, pytest.approx(120.0))
    # On its way: nothing is sent again; nor once it has come.
    assert await world.sent() == []
    await world.scored(0, (60.0, 500.0), (20.0, 0.5), state=applied(NOTHING, control))
    assert await world.sent() == []


async def test_another_owner_would_send_the_same_and_knows_what_was_decided() -> None:
    world = World()
    for partition in range(2):
        await world.scored(partition, (100.0, 0.0), (20.0, 1.0), generation=3)
    [first] = await world.sent()
    world.admitter = Admitter(ensemble(), world.store)
    [again] = await world.sent()
    assert (first.number, first.id, first.generation) == (again.number, again.id, 3)
    await world.scored(0, (100.0, 0.0), (20.0, 1.0), generation=3, state=applied(NOTHING, first))
    world.admitter = Admitter(ensemble(), world.store)
    assert await world.sent() == []


async def test_who_was_retired_is_not_admitted_again_by_itself() -> None:
    world = World()
    retire = Control(version=1, kind="control", number=4, id="x", action="retire", member="s")
    for partition in range(2):
        await world.scored(partition, (100.0, 100.0), (20.0, 20.0), state=applied(NOTHING, retire))
    assert [(control.member, control.number) for control in await world.sent()] == [("t", 5)]


async def test_without_all_partitions_or_by_hand_only_nobody_is_admitted() -> None:
    world = World()
    await world.scored(0, (500.0, 500.0), (900.0, 900.0))
    assert await world.sent() == []
    world.store.available = False
    with pytest.raises(ServerUnavailableError):
        await world.admitter.look()
    by_hand = World(msgspec.structs.replace(RULE, automatic=False))
    for partition in range(2):
        await by_hand.scored(partition, (500.0, 500.0), (900.0, 900.0))
    assert await by_hand.sent() == []
    assert by_hand.admitter.records["s"] is not None


def test_one_owner_looks_and_only_where_there_are_shadows() -> None:
    assert [admits(ensemble(), p) for p in range(2)] == [True, False]
    assert not admits(ensemble(shadows=()), 0)
