"""Taking partition p over: what stands in the topics becomes the state, and the local store what it must
hold.

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

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.labels.matching import keep_answer
from stream_ensemble.core.labels.records import Answer
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.errors import RecordError, StateError
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner.applied_topic import decode_applied
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.standing import Standing
from stream_ensemble.stores.contributions import Change, Key, Order
from stream_ensemble.stores.labels import LabelStore, Position
from stream_ensemble.stores.weights_topic import read_partition

log = logging.getLogger(__name__)

#: Credit blocks stand again at least once a minute; an hour more than the labels need is ample.
KEYFRAME_MARGIN_MS = 3_600_000
#: The stamp of a store that is being filled and must not be trusted if that is broken off.
_FILLING = ""
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
    fused, feedback = ensemble.inputs_of(p)
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        async with asyncio.timeout(_ANSWER_S):
            found = await _offsets(admin, group_id, [fused, feedback])
    finally:
        await admin.close()
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
        weights = await read_partition(reader, ensemble.weights(p))
        fused, _ = await reader.begin_and_end(ensemble.fused(p))
        feedback, _ = await reader.begin_and_end(ensemble.feedback(p))
        begin = Position(
            owner=owner,
            fused=max(fused, committed.fused or 0),
            feedback=max(feedback, committed.feedback or 0),
            applied=0,
        )
        position = await _fill(reader, ensemble, p, store, begin, committed)
    order = max([Order(0, 0, 0), *(order for order, _, _ in weights.values())])
    usable = _usable(weights, order.generation, ensemble)
    parts = {key.segment: part for key, (_, part) in usable.items()}
    return Restored(
        standing=Standing(
            Learned(order.generation, parts), order, epoch=max(order.epoch, committed.epoch) + 1
        ),
        published=[Change(key, order, to_bytes(part)) for key, (order, part) in usable.items()],
        fused=position.fused,
        feedback=position.feedback,
        applied=position.applied,
        fused_until=position.fused_until,
    )


def _usable(
    weights: dict[Key, tuple[Order, str, Contribution]], generation: int, ensemble: LearnedEnsemble
) -> dict[Key, tuple[Order, Contribution]]:
    """The contributions to go on with: of this generation, task and algorithm."""
    usable = {}
    for key, (order, algorithm, part) in weights.items():
        if order.generation != generation or key.task != ensemble.task:
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
        usable[key] = order, part
    return usable


async def _fill(
    reader: LogReader,
    ensemble: LearnedEnsemble,
    p: int,
    store: LabelStore,
    begin: Position,
    committed: Committed,
) -> Position:
    """Bring the store to ``begin``; it is trusted only if its owner was the last to commit."""
    held = store.position()
    if held is None or not committed.owner or held.owner != committed.owner:
        store.clear()
        held = None
    filling = Position(_FILLING, 0, 0, 0)
    # Unstamped first: a store that is half filled when this process dies belongs to nobody.
    store.write(Changes(store), filling)
    applied = await _fill_applied(reader, ensemble.applied(p), store, held.applied if held else 0, filling)
    replay_from = held.fused if held else await _replay_from(reader, ensemble, p, begin)
    fused_until = held.fused_until if held else 0
    fused_until = await _fill_answers(
        reader, ensemble.fused(p), store, (replay_from, begin.fused), filling, fused_until
    )
    position = Position(begin.owner, begin.fused, begin.feedback, applied, fused_until)
    store.write(Changes(store), position)
    return position


async def _fill_applied(
    reader: LogReader, tp: TopicPartition, store: LabelStore, start: int, filling: Position
) -> int:
    begin, end = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, max(begin, start), end):
        changes = Changes(store)
        for record in columns.records:
            try:
                changes.decide(*decode_applied(record))
            except StateError as error:
                log.error("%s partition %d offset %d: %s", tp.topic, tp.partition, record.offset, error)
        store.write(changes, filling)
    return end


async def _replay_from(reader: LogReader, ensemble: LearnedEnsemble, p: int, begin: Position) -> int:
    """From which offset on a fused record may still be needed by a label that is to come."""
    feedback, fused = ensemble.feedback(p), ensemble.fused(p)
    _, end = await reader.begin_and_end(feedback)
    oldest_label = await reader.first_time(feedback, begin.feedback, end)
    if oldest_label is None:
        oldest_label = await reader.last_time(fused)
    if oldest_label is None:
        return begin.fused
    since = oldest_label - ensemble.rules.label_horizon_ms - KEYFRAME_MARGIN_MS
    start = await reader.offset_at(fused, since)
    return begin.fused if start is None else start


async def _fill_answers(
    reader: LogReader,
    tp: TopicPartition,
    store: LabelStore,
    span: tuple[int, int],
    filling: Position,
    fused_until: int,
) -> int:
    begin, _ = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, max(begin, span[0]), span[1]):
        changes = Changes(store)
        rows = zip(columns.records, columns.offsets.tolist(), columns.appended.tolist(), strict=True)
        for record, offset, appended in rows:
            if not record.key or record.value is None:
                continue
            try:
                keep_answer(changes, record.key.decode(), Answer(offset, appended, record.value))
            except (RecordError, UnicodeDecodeError) as error:
                log.warning("%s partition %d offset %d: %s", tp.topic, tp.partition, offset, error)
        fused_until = max(fused_until, int(columns.appended.max()))
        store.write(changes, filling)
    return fused_until
