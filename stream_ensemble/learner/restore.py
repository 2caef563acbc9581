"""Taking partition p over: what stands in the topics becomes the state.

The order matters: the transactional producer has started, so the owner before is fenced and nothing of it
can still become visible; then committed offsets, weights p and applied p, all of one transaction, are read
to their ends.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.by_segment import by_segment
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.kafka.offset_errors import OffsetsAdminClient
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.refill import refill
from stream_ensemble.learner.standing import Standing
from stream_ensemble.stores.contributions import Change, Key, Order, Stored
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.labels import LabelStore, Position
from stream_ensemble.stores.weights_topic import Written, read_partition

log = logging.getLogger(__name__)

_ANSWER_S = 30.0
_ASK_AGAIN_S = 0.1


class Committed(NamedTuple):
    """Offsets of the last transaction (None: there was none), and who committed it."""

    fused: int | None
    feedback: int | None
    epoch: int
    owner: str


@dataclass(slots=True)
class Restored:
    """What the topics say of partition p."""

    standing: Standing
    published: list[Change]
    fused: int
    feedback: int
    applied: int
    fused_until: int


def stamp(epoch: int, owner: str) -> str:
    """Who commits: stands as metadata beside the offsets, so that it is of the same transaction."""
    return f"{epoch}:{owner}"


async def committed_by(
    options: dict[str, Any], group_id: str, ensemble: LearnedEnsemble, p: int
) -> Committed:
    """The offsets of partition p's last transaction.

    Raises:
        KafkaError, TimeoutError: Kafka does not answer.
    """
    admin = OffsetsAdminClient(**options)
    await admin.start()
    try:
        return await last_committed(admin, group_id, ensemble, p)
    finally:
        await admin.close()


async def last_committed(
    admin: AIOKafkaAdminClient, group_id: str, ensemble: LearnedEnsemble, p: int
) -> Committed:
    """:func:`committed_by`, asked through a client that is there."""
    fused, feedback = ensemble.inputs_of(p)
    async with asyncio.timeout(_ANSWER_S):
        found = await _offsets(admin, group_id, [fused, feedback])
    offsets = {tp: None if at.offset < 0 else at.offset for tp, at in found.items()}
    epoch, _, owner = (found[feedback].metadata if feedback in found else "").partition(":")
    return Committed(offsets.get(fused), offsets.get(feedback), int(epoch) if epoch.isdigit() else 0, owner)


async def _offsets(
    admin: AIOKafkaAdminClient, group_id: str, tps: list[TopicPartition]
) -> dict[TopicPartition, Any]:
    while True:
        try:
            found: dict[TopicPartition, Any] = await admin.list_consumer_group_offsets(
                group_id, partitions=tps
            )
            return found
        except KafkaError as error:
            # A coordinator that is moving or has just been made is back in a moment.
            if not error.retriable:
                raise
        await asyncio.sleep(_ASK_AGAIN_S)


async def restore(ensemble: LearnedEnsemble, p: int, store: LabelStore, owner: str) -> Restored:
    """Read what stands of partition p and bring ``store`` to it. The producer must have fenced the owner
    before.

    Raises:
        ServerUnavailableError, KafkaError: Kafka does not answer.
    """
    committed = await committed_by(ensemble.options, ensemble.group_id, ensemble, p)
    async with LogReader(ensemble.options, committed_only=True) as reader:
        log_read = await read_partition(reader, ensemble.weights(p))
        fused, _ = await reader.begin_and_end(ensemble.fused(p))
        feedback, _ = await reader.begin_and_end(ensemble.feedback(p))
        for tp, first, offset in (
            (ensemble.fused(p), fused, committed.fused),
            (ensemble.feedback(p), feedback, committed.feedback),
        ):
            if offset is not None and offset < first:
                log.error("%s: offsets %d to %d were removed before they were read", tp, offset, first)
        begin = Position(
            owner=owner,
            fused=max(fused, committed.fused or 0),
            feedback=max(feedback, committed.feedback or 0),
            applied=0,
        )
        position = await refill(reader, ensemble, p, store, begin, last_owner=committed.owner)
    said = log_read.stored()
    order = max([Order(0, 0, 0), *(stored.order for stored in said.values())])
    usable = _usable(log_read.newest, order.generation, ensemble)
    parts = by_segment({key.segment: stored.value for key, stored in usable.items()})
    controls = log_read.controls
    return Restored(
        standing=Standing(
            Learned(order.generation, parts),
            order,
            epoch=max(order.epoch, committed.epoch) + 1,
            controls=controls.state if controls else NOTHING,
        ),
        published=[
            Change(key, stored.order, stored.value, log_read.newest[key].at if key in usable else 0)
            for key, stored in said.items()
            if key in usable or key == CONTROLS
        ],
        fused=position.fused,
        feedback=position.feedback,
        applied=position.applied,
        fused_until=position.fused_until,
    )


def _usable(weights: dict[Key, Written], generation: int, ensemble: LearnedEnsemble) -> dict[Key, Stored]:
    """The contributions to go on with: of this generation, task and algorithm."""
    usable = {}
    for key, (stored, algorithm, _) in weights.items():
        if stored.order.generation != generation or key.task != ensemble.task:
            continue
        if algorithm != ensemble.algorithm.name:
            log.warning(
                "%s: what %s learned for %s is left behind; the settings name %s",
                ensemble.name,
                algorithm,
                key,
                ensemble.algorithm.name,
            )
            continue
        usable[key] = stored
    return usable
