"""What is live of partition p at one instant: its contributions in the weights topic and in Redis, and the
offsets of the fused records and labels they are made of.

Offsets, weights and applied labels are of one transaction, but a reader sees each by itself. So the offsets
are asked for before and after: where both are the same, nothing was committed between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient

from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.errors import ServerUnavailableError, StateError
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.restore import Committed, last_committed
from stream_ensemble.messages import ControlState
from stream_ensemble.stores.contributions import ContributionStore, Key, Order, Snapshot, Stored
from stream_ensemble.stores.weights_topic import PartitionLog, Written

_ASK_AGAIN_S = 0.02
_LOWEST = Order(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """Partition p at one instant.

    Attributes:
        fused: next offset of fused p, ``feedback`` that of feedback p, as last committed; 0: nothing was.
        weights: the newest record of every key.
        controls: the newest control state.
        stored: all of that as it should stand in Redis.
        redis: what Redis held of these keys then; None: it did not answer.
        redis_away: why.
    """

    fused: int
    feedback: int
    weights: Mapping[Key, Written]
    controls: ControlState
    stored: Mapping[Key, Stored]
    redis: Snapshot | None
    redis_away: str | None = None

    @property
    def agrees(self) -> bool:
        """Does Redis hold every contribution of this very order, or has it marked as cold?"""
        if self.redis is None:
            return False
        return all(_order(self.redis, key) == stored.order for key, stored in self.stored.items())


async def cut(
    ensemble: LearnedEnsemble,
    p: int,
    admin: AIOKafkaAdminClient,
    reader: LogReader,
    store: ContributionStore,
    *,
    patience_s: float,
) -> Cut:
    """Partition p at one instant.

    Redis is written right after a transaction, so the instant is looked for in which it has been; if there is
    none within ``patience_s``, one without.

    Raises:
        StateError: the learner commits so often that no such instant was found.
        ServerUnavailableError, KafkaError: Kafka does not answer.
    """
    weights = PartitionLog(ensemble.weights(p))
    found: Cut | None = None
    clock = asyncio.get_running_loop().time
    give_up = clock() + patience_s
    while True:
        before = await last_committed(admin, ensemble.group_id, ensemble, p)
        await weights.read_on(reader)
        stored = weights.stored()
        held, away = await _held(store, p, list(stored))
        after = await last_committed(admin, ensemble.group_id, ensemble, p)
        if _offsets(before) == _offsets(after):
            controls = weights.controls.state if weights.controls else NOTHING
            found = Cut(*_offsets(after), dict(weights.newest), controls, stored, held, away)
            if found.agrees or held is None:
                return found
        if clock() > give_up:
            break
        await asyncio.sleep(_ASK_AGAIN_S)
    if found is None:
        raise StateError(
            f"{ensemble.name} partition {p}: labels are committed so often that its weights and offsets "
            f"could not be read together within {patience_s:g} s; run again, or with a larger --wait"
        )
    return found


def _offsets(committed: Committed) -> tuple[int, int]:
    return committed.fused or 0, committed.feedback or 0


async def _held(store: ContributionStore, p: int, keys: Sequence[Key]) -> tuple[Snapshot | None, str | None]:
    try:
        return await store.own(p, keys), None
    except ServerUnavailableError as error:
        return None, str(error)


def _order(snapshot: Snapshot, key: Key) -> Order:
    """Of the one partition that was asked for; the lowest where there is none."""
    partitions = [*snapshot.fields.get(key, {}), *snapshot.cold.get(key, {})]
    return next((order for p in partitions if (order := snapshot.order(key, p))), _LOWEST)
