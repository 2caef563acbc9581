"""Where the simulation stands in for the world: the modules' clocks, aiokafka's clients, the local store.

Nothing of the product's own logic is replaced. Times that only say how finely something is looked at are
coarser than in production, because every look costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from stream_ensemble.core.join import slots
from stream_ensemble.fuser import ensemble as fuser_ensemble
from stream_ensemble.fuser import owner as fuser_owner
from stream_ensemble.fuser import transactions as fuser_transactions
from stream_ensemble.kafka import end_proofs, fence, fenced_producer, fetching, tail, transactional_output
from stream_ensemble.learner import owner as learner_owner
from stream_ensemble.learner import partition as learner_partition
from stream_ensemble.learner import publisher, restore
from tests.simulation import clients
from tests.simulation.loop import EPOCH_MS
from tests.simulation.network import here
from tests.simulation.settings import TOO_LARGE_S


class _Time:
    """The module ``time`` of a process."""

    @staticmethod
    def time() -> float:
        """The same as time of day, which only decides when a segment is cold."""
        return EPOCH_MS / 1000 + here().time()

    @staticmethod
    def monotonic() -> float:
        """The clock of the process that asks."""
        return here().time()


_CLOCKED = (
    fuser_ensemble, fuser_owner, fuser_transactions, end_proofs, fence, fetching, tail,
    learner_owner, learner_partition, publisher,
)  # fmt: skip


def _replacements() -> Iterator[tuple[Any, str, Any]]:
    for module in _CLOCKED:
        yield module, "time", _Time
    for module in (fenced_producer, transactional_output):
        yield module, "AIOKafkaProducer", clients.Producer
        yield module, "batch_builder", lambda size, compression, **_: clients.Builder(size)
    yield restore, "OffsetsAdminClient", clients.Admin
    yield tail, "AIOKafkaConsumer", clients.AsideConsumer
    yield tail, "adopt", lambda consumer: None
    yield learner_owner, "open_label_store", _open_label_store
    yield learner_partition, "uuid", SimpleNamespace(uuid4=_numbered)
    yield fuser_owner, "_TICK_S", 0.25
    yield fuser_owner, "_TOO_LARGE_S", TOO_LARGE_S
    # asyncio remembers every task for whoever asks for all. Nobody does here; it took a tenth of the time.
    yield asyncio.tasks._all_tasks, "add", lambda task: None  # type: ignore[attr-defined]
    # So few that the ring grows and ended requests are cut out of it within one schedule.
    yield slots, "_FIRST_CAPACITY", 64


def _open_label_store(directory: Any) -> Any:
    return here().world.disks.open(directory)


def _numbered() -> Any:
    return SimpleNamespace(hex=f"owner-{next(here().world.numbers)}")


@contextmanager
def simulated() -> Iterator[None]:
    """The product runs in the simulation as long as this is open."""
    before = [(module, name, getattr(module, name)) for module, name, _ in _replacements()]
    for module, name, value in _replacements():
        setattr(module, name, value)
    # As in the fuse app.
    torch.set_num_threads(1)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
