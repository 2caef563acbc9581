"""At the cap of open requests topics are held back, and none of them for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from stream_ensemble import config
from stream_ensemble.core.join.holding import Holding
from stream_ensemble.core.join.ledger import Ledger
from stream_ensemble.core.join.progress import TopicProgress
from stream_ensemble.fuser.ensemble import fused_ensemble
from stream_ensemble.fuser.owner import FuseOwner

CAP = 100


class Consumer:
    """What the owner holds."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    async def hold(self, partitions: set[TP]) -> None:
        self.held |= {tp.topic for tp in partitions}

    async def unhold(self, partitions: set[TP]) -> None:
        self.held -= {tp.topic for tp in partitions}


class World:
    """A partition at the cap, of whose three topics two are held, by log time."""

    def __init__(self) -> None:
        task = config.Task(classes=["x", "y"])
        settings = config.Settings(
            ensembles={"e": config.Ensemble(members=["a", "b"], task=task, max_open_requests=CAP)}
        )
        self.ensemble = fused_ensemble(settings, "e", None)  # type: ignore[arg-type]
        self.consumer: Any = Consumer()
        app: Any = SimpleNamespace(consumer=self.consumer)
        self.owner = FuseOwner(app, settings, [self.ensemble], None, {})  # type: ignore[arg-type]
        self.topics = [TopicProgress(log_time=time) for time in (2000, 3000, 1000)]
        self.progress = SimpleNamespace(topics=self.topics, leading=range(3))
        self.join: Any = SimpleNamespace(open_requests=CAP, progress=self.progress, ledger=Ledger())
        self.partition: Any = SimpleNamespace(join=self.join, holding=Holding(self.join))
        self.partition.holding.by_time = True

    async def bound(self) -> set[str]:
        """What is held after another look."""
        await self.owner._bound(self.ensemble, 0, self.partition)
        held: set[str] = self.consumer.held
        return held


async def test_a_topic_that_was_behind_is_not_waited_for_once_it_was_read() -> None:
    world = World()
    assert await world.bound() == {"e.predictions.a", "e.predictions.b"}
    # The requests topic comes, a few requests end, and no more can until the members are read on.
    world.topics[2].log_time, world.join.open_requests = 4000, CAP - 1
    assert await world.bound() == {"e.predictions.b", "e.requests"}
    world.join.open_requests = CAP // 2
    assert await world.bound() == set()


async def test_the_topic_of_a_member_that_goes_into_shadow_is_read_on() -> None:
    world = World()
    assert await world.bound() == {"e.predictions.a", "e.predictions.b"}
    world.progress.leading = [0, 2]
    assert await world.bound() == {"e.predictions.a"}
    world.join.open_requests = CAP // 2
    assert await world.bound() == set()
