"""Owners that come and go, labels, losses and fusers in any order: a segment is there whole, or cold."""

from __future__ import annotations

import asyncio
import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.learner import publisher
from stream_ensemble.learner.publisher import WeightsPublisher
from stream_ensemble.stores.contributions import Change, Key, Order, Stored
from stream_ensemble.stores.memory_contributions import MemoryContributionStore
from stream_ensemble.stores.weights_view import WeightsView

MEMBERS = ("a", "b")
P, AFTER_S = 3, 10.0
SEGMENTS = ("north", "south")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("teach"), st.integers(0, P - 1), st.sampled_from(SEGMENTS)),
        st.tuples(st.sampled_from(["look", "restart", "freeze", "thaw", "publish"]), st.integers(0, P - 1)),
        st.tuples(st.just("ask"), st.sampled_from(SEGMENTS)),
        st.tuples(st.just("wait"), st.sampled_from([1.0, AFTER_S / 2, AFTER_S + 1])),
        st.tuples(st.sampled_from(["read", "forget", "flush", "keep", "fail over"])),
    ),
    max_size=60,
)


class World:
    """P owners, each with those it replaced and that may yet wake up; one Redis; one fuser."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0
        self.store = MemoryContributionStore()
        self.older = copy.deepcopy(self._kept())
        self.topic: list[dict[Key, Change]] = [{} for _ in range(P)]
        self.said = [Order(0, 1, 0) for _ in range(P)]
        self.frozen: list[WeightsPublisher | None] = [None] * P
        self.owners = [self._owner(p) for p in range(P)]
        self.view = self._fuser()

    def _kept(self) -> dict[str, object]:
        return {name: held for name, held in vars(self.store).items() if isinstance(held, dict)}

    def _owner(self, p: int) -> WeightsPublisher:
        owner = WeightsPublisher(self.store, p, on_overtaken=lambda order: None, cold_after_s=AFTER_S)
        owner.offer(self.topic[p].values(), self.said[p])
        return owner

    def _fuser(self) -> WeightsView:
        return WeightsView(self.store, MLPoly(MEMBERS), task="class", partitions=P, segments=9)

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def teach(self, p: int, segment: str) -> None:
        order = self.said[p]._replace(sequence=self.said[p].sequence + 1)
        part = Contribution(MEMBERS, {"R": np.array([1.0, p])}, {}, n=order.sequence)
        change = Change(Key("class", segment), order, to_bytes(part), self.now_ms())
        self.topic[p][change.key] = change
        self.said[p] = order
        self.owners[p].offer([change], order)

    def restart(self, p: int) -> None:
        self.said[p] = self.said[p]._replace(epoch=self.said[p].epoch + 1)
        self.owners[p] = self._owner(p)

    def freeze(self, p: int) -> None:
        """It is replaced, and does not know."""
        self.frozen[p] = self.owners[p]
        self.restart(p)

    async def step(self, what: str, *how: object) -> None:
        match what, *how:
            case "teach", int(p), str(segment):
                self.teach(p, segment)
            case (("restart" | "freeze"), int(p)):
                getattr(self, what)(p)
            case "publish", int(p):
                await self.owners[p].publish()
            case "look", int(p):
                await self.owners[p].check()
                await self.owners[p].publish()
            case "thaw", int(p):
                await self.thaw(p)
            case "ask", str(segment):
                self.view.of_segment(segment)
            case "wait", float(seconds):
                self.now_s += seconds
            case ("read",):
                await self.read()
            case ("forget",):
                self.view = self._fuser()
            case ("flush",):
                self.store.flush_all()
            case ("keep",):
                self.older = copy.deepcopy(self._kept())
            case ("fail over",):
                vars(self.store).update(copy.deepcopy(self.older))

    async def thaw(self, p: int) -> None:
        zombie = self.frozen[p]
        if zombie is not None:
            await zombie.publish()
            await zombie.check()
            await zombie.publish()

    async def read(self) -> None:
        await self.view.refresh()
        await self.view.refresh_segments()

    async def settle(self) -> None:
        for _ in range(4):
            for p in range(P):
                await self.step("look", p)

    def learned(self, segment: str) -> dict[int, Stored]:
        found = {p: self.topic[p].get(Key("class", segment)) for p in range(P)}
        return {p: Stored(change.order, change.value) for p, change in found.items() if change is not None}

    async def check_settled(self, segment: str) -> None:
        """All there or all cold, of the newest order; and a fuser that asks gets all of it, bit for bit."""
        key, expected = Key("class", segment), self.learned(segment)
        snapshot = await self.store.read([key])
        there, cold = dict(snapshot.fields[key]), dict(snapshot.cold.get(key, {}))
        orders = {p: stored.order for p, stored in expected.items()}
        assert (there, cold) in ((expected, {}), ({}, orders))
        for _ in range(4):
            self.view.of_segment(segment)
            await self.read()
            await self.settle()
        held = self.view.segments._held[segment]
        assert held.orders == orders
        assert held.snapshot.version.n == sum(order.sequence for order in orders.values())
        snapshot = await self.store.read([key])
        if snapshot.fields[key]:
            assert snapshot.fields[key] == expected


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_whatever_happens_a_segment_is_all_there_or_all_cold_in_the_end(
    steps: list[tuple[object, ...]],
) -> None:
    async def play() -> None:
        world = World()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publisher, "_now_ms", world.now_ms)
            for step in steps:
                await world.step(*step)  # type: ignore[arg-type]
            await world.settle()
            for segment in SEGMENTS:
                await world.check_settled(segment)

    asyncio.run(play())


@settings(max_examples=300, deadline=None)
@given(STEPS.filter(lambda steps: all(step[0] not in ("flush", "fail over") for step in steps)))
def test_a_fuser_never_takes_a_part_of_a_segment_for_all_of_it(steps: list[tuple[object, ...]]) -> None:
    """What a marker that says complete has told once is in every reading after it, or nothing is taken."""

    async def play() -> None:
        world = World()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(publisher, "_now_ms", world.now_ms)
            for step in steps:
                told = {p: marker.order for p, marker in (await world.store.markers()).markers.items()}
                before = dict(world.view.segments._held)
                await world.step(*step)  # type: ignore[arg-type]
                for segment, held in world.view.segments._held.items():
                    if before.get(segment) is held or step[0] != "read":
                        continue
                    for p, stored in world.learned(segment).items():
                        assert (
                            stored.order > told.get(p, Order(0, 0, 0)) or held.orders.get(p) == stored.order
                        )

    asyncio.run(play())
