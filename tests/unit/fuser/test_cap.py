"""At the cap of open requests topics are held before anybody is given up; here by log time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from stream_ensemble.config import Kafka
from stream_ensemble.core.join.holding import Holding
from stream_ensemble.core.join.ledger import Ledger
from stream_ensemble.core.join.progress import TopicProgress
from stream_ensemble.fuser.owner import FuseOwner

CAP = 100
INPUTS = [TP("a", 0), TP("b", 0)]


class Consumer:
    """Which partitions are held."""

    def __init__(self) -> None:
        self.held: set[TP] = set()

    async def hold(self, partitions: set[TP]) -> None:
        self.held |= partitions

    async def unhold(self, partitions: set[TP]) -> None:
        self.held -= partitions


def looked_at(open_requests: int, log_times: tuple[int, int], *, b_is_at_its_end: bool = False) -> Any:
    """What an owner does that sees so many open, the two topics read to these times: held, relieved."""
    consumer = Consumer()
    settings: Any = SimpleNamespace(app="a", kafka=Kafka())
    owner = FuseOwner(SimpleNamespace(consumer=consumer), settings, [], None, {})  # type: ignore[arg-type]
    topics = [TopicProgress(log_time=log_time) for log_time in log_times]
    if b_is_at_its_end:
        topics[1].end_asked_at = time.monotonic()
    relieved: list[int] = []
    progress = SimpleNamespace(topics=topics, leading=range(2))
    join: Any = SimpleNamespace(open_requests=open_requests, progress=progress, ledger=Ledger())
    holding = Holding(join)
    holding.by_time = True
    partition: Any = SimpleNamespace(join=join, relieve=relieved.append, holding=holding)
    config = SimpleNamespace(max_open_requests=CAP)
    ensemble: Any = SimpleNamespace(config=config, inputs_of=lambda number: INPUTS)
    asyncio.run(owner._bound(ensemble, 0, partition))
    return {tp.topic for tp in consumer.held}, relieved


@pytest.mark.parametrize(
    ("open_requests", "held", "relieved"),
    [
        (CAP - 1, set(), []),
        (CAP, {"a"}, []),
        (2 * CAP, {"a"}, []),
        (2 * CAP + 5, {"a"}, [CAP + 5]),
    ],
)
def test_who_is_ahead_waits_for_who_is_behind(
    open_requests: int, held: set[str], relieved: list[int]
) -> None:
    assert looked_at(open_requests, (900, 500)) == (held, relieved)


@pytest.mark.parametrize(("log_times", "at_end"), [((900, 500), True), ((900, 900), False)])
def test_where_holding_cannot_help_the_oldest_are_decided(log_times: tuple[int, int], at_end: bool) -> None:
    assert looked_at(CAP + 5, log_times, b_is_at_its_end=at_end) == (set(), [5])
