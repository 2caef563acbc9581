"""When a partition's flushes begin, on a clock that moves only where something takes time."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from stream_ensemble.learner import owner as module
from stream_ensemble.learner.owner import LearnOwner

PLACE = ("e", 0)
INTERVAL_S = 0.25


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Partition:
    """Each of its flushes takes the next of ``takes`` (s); after the last one it is given up."""

    def __init__(self, clock: Clock, takes: list[float]) -> None:
        self.began: list[float] = []
        self._clock = clock
        self._takes = takes
        self.owner: Any = None

    def idle(self, evidence: object) -> None:
        pass

    def ahead(self, evidence: object) -> bool:
        return False

    async def flush(self) -> None:
        self.began.append(self._clock.now)
        self._clock.now += self._takes[len(self.began) - 1]
        if len(self.began) == len(self._takes):
            self.owner.partitions.clear()


def _fault(what: str, error: BaseException) -> NoReturn:
    raise AssertionError(what) from error


async def begins(monkeypatch: pytest.MonkeyPatch, takes: list[float]) -> list[float]:
    """How long after the one before each flush begins, the first after the partition is ready."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "asyncio", clock)
    topics = SimpleNamespace(fused="fused", feedback="feedback")
    learning = SimpleNamespace(flush_interval_ms=INTERVAL_S * 1000)
    ensemble: Any = SimpleNamespace(name="e", topics=topics, config=SimpleNamespace(learning=learning))
    consumer: Any = SimpleNamespace(end_evidence=dict)
    owner = LearnOwner(lambda: consumer, [ensemble], {}, closing_limit_s=1.0, on_fault=_fault)
    partition: Any = Partition(clock, takes)
    partition.owner = owner
    owner.partitions[PLACE] = partition
    await owner._keep_flushing(PLACE, partition, owner._generation)
    times = [100.0, *partition.began]
    return [after - before for before, after in pairwise(times)]


async def test_what_a_flush_takes_is_not_waited_for_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await begins(monkeypatch, [0.15, 0.01, 0.1]) == pytest.approx([INTERVAL_S] * 3)


async def test_a_flush_longer_than_the_interval_is_not_followed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await begins(monkeypatch, [0.6, 0.01]) == pytest.approx([INTERVAL_S, 0.65])
