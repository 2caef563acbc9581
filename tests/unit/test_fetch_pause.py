"""A reader that nobody waits for lets records gather between two fetches."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest, FetchResponse_v4
from aiokafka.protocol.metadata import MetadataRequest

from stream_ensemble.kafka.fetching import _ObservedClient

PAUSE_S = 0.05
ONE, OTHER = 1, 2


class Client:
    """Answers at once, with nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, float]] = []
        self._conns: dict[Any, Any] = {}

    async def send(self, node: int, request: Any, **kwargs: Any) -> Any:
        self.sent.append((node, time.monotonic()))
        return FetchResponse_v4(0, [])


def fetch() -> FetchRequest:
    return FetchRequest(50, 1, 1 << 20, 1, [("fused", [(0, 70, 1 << 20)])])


async def fetched(pause_s: float, nodes: list[int]) -> list[float]:
    """When each of these was asked, after the first."""
    client = Client()
    observed = _ObservedClient(client, None, pause_s)
    for node in nodes:
        await observed.send(node, fetch())
    return [at - client.sent[0][1] for _, at in client.sent]


async def test_a_broker_is_fetched_from_once_in_a_pause() -> None:
    _, second, third = await fetched(PAUSE_S, [ONE, ONE, ONE])
    assert second >= PAUSE_S - 0.005
    assert third >= 2 * PAUSE_S - 0.005


async def test_another_broker_does_not_wait_for_it_and_without_a_pause_none_does() -> None:
    for found in (await fetched(10.0, [ONE, OTHER]), await fetched(0.0, [ONE, ONE])):
        assert found[1] < 5.0


async def test_nothing_but_fetches_waits() -> None:
    observed = _ObservedClient(Client(), None, 10.0)
    async with asyncio.timeout(5.0):
        await observed.send(ONE, fetch())
        await observed.send(ONE, MetadataRequest([]))


async def test_a_record_that_comes_late_has_waited_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    observed = _ObservedClient(client, None, PAUSE_S)
    await observed.send(ONE, fetch())
    await asyncio.sleep(PAUSE_S)
    monkeypatch.setattr(asyncio, "sleep", pytest.fail)
    await observed.send(ONE, fetch())
