"""What is too large for its topic is tried again after a pause, any other failure at once."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, ProducerFenced
from faust.types import TP

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.fuser import owner as owner_module
from stream_ensemble.fuser.ensemble import fused_ensemble
from stream_ensemble.fuser.owner import FuseOwner
from stream_ensemble.fuser.takeover import Takeover

PLACE = "e", 0
PAUSE_S = 0.05


class Consumer:
    def __init__(self) -> None:
        self.held: list[set[str]] = []

    async def hold(self, partitions: set[TP]) -> None:
        self.held.append({tp.topic for tp in partitions})

    async def start_at(self, positions: dict[TP, int]) -> None:
        pass


def in_a_transaction(cause: Exception) -> Exception:
    error = ServerUnavailableError("Kafka did not commit a transaction")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (MessageSizeTooLargeError(), True),
        (in_a_transaction(MessageSizeTooLargeError()), True),
        (ProducerFenced(), False),
        (in_a_transaction(ProducerFenced()), False),
    ],
)
async def test_only_what_is_too_large_waits(
    monkeypatch: pytest.MonkeyPatch, error: Exception, pauses: bool
) -> None:
    taken: asyncio.Queue[float] = asyncio.Queue()

    async def take_over(*_: Any) -> Takeover:
        await taken.put(asyncio.get_running_loop().time())
        return Takeover((0, 0, 0), 0)

    monkeypatch.setattr(owner_module, "take_over", take_over)
    monkeypatch.setattr(owner_module, "_TOO_LARGE_S", PAUSE_S)
    task = config.Task(classes=["x", "y"])
    settings = config.Settings(ensembles={"e": config.Ensemble(members=["a", "b"], task=task)})
    weights: Any = SimpleNamespace(current=lambda: SimpleNamespace(membership=None))
    ensemble = fused_ensemble(settings, "e", weights)
    consumer = Consumer()
    owner = FuseOwner(SimpleNamespace(consumer=consumer), settings, [ensemble], None, {})  # type: ignore[arg-type]
    owner.assigned(frozenset(ensemble.inputs_of(0)), 1)
    await taken.get()
    began = asyncio.get_running_loop().time()
    owner._on_failure(PLACE, error)
    assert PLACE not in owner.partitions
    waited = await asyncio.wait_for(taken.get(), 5.0) - began
    assert (waited >= PAUSE_S) == pauses
    # Nothing is read meanwhile.
    assert consumer.held == [set(ensemble.inputs)] * 2
    await owner._preparing[PLACE]
    assert PLACE in owner.partitions
