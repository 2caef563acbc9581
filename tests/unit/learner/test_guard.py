"""One owner looks at what all have learned and switches by control records, once for each decision."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream_ensemble.config import Ensemble, Guardrail, Learning, Settings, Task
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.control import applied
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble
from stream_ensemble.learner.guard import Guard, guards
from stream_ensemble.messages import Control, ControlState
from stream_ensemble.stores.contributions import Change, Key, Marker, Order
from stream_ensemble.stores.control_state import CONTROLS, encode_state
from stream_ensemble.stores.memory_contributions import MemoryContributionStore

WHOLE = Key("class")


def ensemble(*, enabled: bool = True) -> LearnedEnsemble:
    settings = Settings(
        ensembles={
            "e": Ensemble(
                members=["a", "b"],
                task=Task(classes=["x", "y"]),
                partitions=2,
                learning=Learning(guardrail=Guardrail(enabled=enabled)),
            )
        }
    )
    return learned_ensemble(settings, "e", group_id="g", data_dir=Path())


class World:
    """Two owners' Redis in memory, and the guard."""

    def __init__(self) -> None:
        self.store = MemoryContributionStore()
        self.guard = Guard(ensemble(), self.store)
        self.sequence = 0

    async def learned(self, partition: int, *losses: float, state: ControlState | None = None) -> None:
        """Partition p stands at these sums (learned, uniform, labels), and at this control state."""
        self.sequence += 1
        order = Order(0, 1, self.sequence)
        part = Contribution(("a", "b"), {"top/guardrail": np.array(losses)})
        changes = [Change(WHOLE, order, to_bytes(part))]
        if state is not None:
            changes.append(Change(CONTROLS, order, encode_state(state)))
        await self.store.publish(partition, changes)
        await self.store.mark(partition, Marker(order, complete=True))

    async def sent(self) -> Control | None:
        """Look, and what is sent by it: the same to both partitions, or nothing."""
        await self.guard.look()
        out = self.guard.switches()
        assert self.guard.switches() == []
        if not out:
            return None
        assert [(each.tp.topic, each.tp.partition, each.key) for each in out] == [
            ("e.feedback", 0, None),
            ("e.feedback", 1, None),
        ]
        (value,) = {each.value for each in out}
        assert value is not None
        return msgspec.json.decode(value, type=Control)


async def test_it_switches_when_the_partitions_together_are_worse_and_back_when_they_are_not() -> None:
    world = World()
    await world.learned(0, 40.0, 20.0, 30.0)
    assert await world.sent() is None
    await world.learned(1, 30.0, 20.0, 30.0)
    on = await world.sent()
    assert on is not None
    assert (on.action, on.by, on.number) == ("pin", "guardrail", 1)
    assert on.pinned is not None
    assert on.pinned.weights == {"a": 1.0, "b": 1.0}
    assert world.guard.judged == pytest.approx((70 / 60, 40 / 60, 60.0))
    # On its way: nothing is sent again, whatever is seen meanwhile.
    assert await world.sent() is None
    state = applied(ControlState(number=0, id=""), on)
    await world.learned(0, 40.0, 20.0, 30.0, state=state)
    assert await world.sent() is None
    # Between the thresholds all stays as it is.
    await world.learned(1, -19.0, 0.0, 30.0)
    assert await world.sent() is None
    await world.learned(1, -20.0, 0.0, 30.0)
    off = await world.sent()
    assert off is not None
    assert (off.action, off.number) == ("unpin", 2)


async def test_another_owner_goes_on_where_the_last_one_was() -> None:
    world = World()
    await world.learned(0, 40.0, 20.0, 60.0)
    await world.learned(1, 0.0, 0.0, 0.0)
    on = await world.sent()
    assert on is not None
    state = applied(ControlState(number=7, id="other"), on)
    await world.learned(1, 0.0, 0.0, 0.0, state=state)
    world.guard = Guard(ensemble(), world.store)
    assert await world.sent() is None
    await world.learned(0, 10.0, 20.0, 60.0)
    off = await world.sent()
    assert off is not None
    assert (off.action, off.number) == ("unpin", 8)


async def test_without_all_of_the_partitions_nothing_is_switched() -> None:
    world = World()
    await world.learned(0, 40.0, 20.0, 60.0)
    assert await world.sent() is None
    world.store.available = False
    with pytest.raises(ServerUnavailableError):
        await world.guard.look()


def test_one_owner_keeps_it_and_only_where_the_settings_say_so() -> None:
    assert [guards(ensemble(), p) for p in range(2)] == [True, False]
    assert not guards(ensemble(enabled=False), 0)
