"""One ensemble with one worker for all tests of a module, since a worker takes seconds to start.

Tests tell their requests from others' by the ids, counts by what they rise by, and what is kept per partition
(who is silent, how far the log was read) by taking a partition of their own.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import ConsumerRecord

from tests.integration.fuser_world import Worker, World
from tests.servers import remove_topics

_FATES = ("used", "late", "unneeded", "duplicate", "dead_lettered", "forwarded", "replayed", "conflicting")
_STATUSES = ("complete", "partial", "fallback", "expired")


class Shared:
    """A world with a worker that owns all its partitions."""

    def __init__(self, world: World, worker: Worker) -> None:
        self.world = world
        self.worker = worker

    def counts(self, partition: int | None = None) -> Counter[str]:
        """The ledger as metrics tell it, of one partition or of all; it must balance."""
        page = self.worker.get("/metrics")
        where = {} if partition is None else {"partition": str(partition)}
        read = self.worker.metric
        assert read("stream_ensemble_ledger_difference", page, **where) == 0
        counts = {
            fate: int(read("stream_ensemble_predictions_total", page, fate=fate, **where)) for fate in _FATES
        }
        for status in _STATUSES:
            counts[status] = int(read("stream_ensemble_requests_total", page, status=status, **where))
        return Counter(counts)

    def silent(self, member: str, partition: int) -> bool:
        """Whether this member is not waited for."""
        place = {"member": member, "partition": str(partition)}
        return bool(self.worker.metric("stream_ensemble_member_silent", **place))

    def open(self, partition: int) -> int:
        """How many requests of this partition have not ended."""
        return int(self.worker.metric("stream_ensemble_open_requests", partition=str(partition)))


@contextmanager
def shared_fuser(
    runner: asyncio.Runner, bootstrap: str, redis_url: str, folder: Path, **ensemble: Any
) -> Iterator[Shared]:
    """A world with its worker running, for as long as the context lasts."""
    name = f"e{uuid.uuid4().hex[:12]}"
    world = World(bootstrap, redis_url, name, folder, **ensemble)
    runner.run(world.__aenter__())
    try:
        worker = world.start()
        runner.run(world.owning(worker))
        yield Shared(world, worker)
    finally:
        runner.run(world.__aexit__())
        runner.run(remove_topics(bootstrap, prefix=f"{name}."))


def ends(fused: Mapping[str, ConsumerRecord]) -> set[tuple[str, str | None]]:
    """The ways in which these requests ended: status and cause."""
    values = [json.loads(record.value) for record in fused.values()]
    return {(value["status"], value.get("cause")) for value in values}
