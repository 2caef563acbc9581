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


async def test_a_topic_that_was_behind_is_not_waited_for_once_it_was_read() -> None:
    task = config.Task(classes=["x", "y"])
    settings = config.Settings(
        ensembles={"e": config.Ensemble(members=["a", "b"], task=task, max_open_requests=CAP)}
    )
    ensemble = fused_ensemble(settings, "e", None)  # type: ignore[arg-type]
    consumer: Any = Consumer()
    app: Any = SimpleNamespace(consumer=consumer)
    owner = FuseOwner(app, settings, [ensemble], None, {})  # type: ignore[arg-type]
    topics = [TopicProgress(log_time=time) for time in (2000, 3000, 1000)]
    progress = SimpleNamespace(topics=topics, leading=range(3))
    join: Any = SimpleNamespace(open_requests=CAP, progress=progress, ledger=Ledger())
    partition: Any = SimpleNamespace(join=join, holding=Holding(join))
    partition.holding.by_time = True
    await owner._bound(ensemble, 0, partition)
    assert consumer.held == {"e.predictions.a", "e.predictions.b"}
    # The requests topic comes, a few requests end, and no more can until the members are read on.
    topics[2].log_time, join.open_requests = 4000, CAP - 1
    await owner._bound(ensemble, 0, partition)
    assert consumer.held == {"e.predictions.b", "e.requests"}
    join.open_requests = CAP // 2
    await owner._bound(ensemble, 0, partition)
    assert consumer.held == set()
