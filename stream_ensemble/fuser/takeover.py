"""Taking partition p over: fence it, read back what already ended, and only then start reading.

The order matters (fence, committed offsets, end of fused p, its tail): after the fence nothing older can be
written, so the tail read afterwards is all there is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import TopicPartition
from faust.types import TP

from stream_ensemble.core.join.state import PartitionJoin
from stream_ensemble.errors import FencedError
from stream_ensemble.fuser.ensemble import FusedEnsemble
from stream_ensemble.fuser.history import FusedHistory
from stream_ensemble.kafka.fenced_producer import PartitionProducer
from stream_ensemble.kafka.tail import LogReader, oldest_time
from stream_ensemble.kafka.transport import ChunkConsumer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a partition starts from: a position per input topic."""

    positions: tuple[int, ...]
    requests_read_back: int


async def take_over(
    ensemble: FusedEnsemble,
    partition: int,
    join: PartitionJoin,
    consumer: ChunkConsumer,
    producer: PartitionProducer,
    options: dict[str, Any],
    generation: int,
    absent: Collection[str] = (),
) -> Takeover:
    """Fence partition p and fill ``join`` with what ended before; returns where to start reading.

    Args:
        absent: input topics whose partition p another process has; their position is -1.

    Raises:
        FencedError: we are no longer a member of the group in ``generation``.
        ServerUnavailableError: a broker did not answer in time.
    """
    if not await consumer.heartbeat_accepted(generation):
        raise FencedError(f"not a member of the group in generation {generation}")
    fused = TopicPartition(ensemble.fused, partition)
    late = TopicPartition(ensemble.late, partition)
    held = await producer.fence(ensemble.transactional_id(partition), [fused, late])
    inputs = [tp for tp in ensemble.inputs_of(partition) if tp.topic not in absent]
    leading = {ensemble.inputs[t] for t in join.progress.leading}
    committed = await consumer.committed_offsets(inputs)
    # Committed ones only, whatever mode this worker is in: what an owner in the other one has left aborted
    # was never an answer.
    async with LogReader(options) as reader, LogReader(options, committed_only=True) as answered:
        begin, end = await answered.begin_and_end(fused)
        if held.first_epoch == 0 and await answered.last_time(fused) is not None:
            _say_unfenced(fused, ensemble.transactional_id(partition))
        mine = [tp for tp in inputs if tp.topic in leading]
        earliest: int | None = None
        if any(committed[tp] is None for tp in mine):
            earliest = await answered.first_time(fused, begin, end)
        found = await _positions(reader, ensemble, mine, committed, earliest)
        positions = dict(zip(mine, found, strict=True))
        leaders = [(TopicPartition(tp.topic, tp.partition), at) for tp, at in positions.items()]
        replay_from = again_from = await oldest_time(reader, leaders)
        beside = [tp for tp in inputs if tp.topic not in leading]
        if beside:
            positions |= await _positions_in_shadow(reader, beside, committed, replay_from)
            # What was said in shadow stands in answers too, and its topic may be committed less far.
            everyone = [(TopicPartition(tp.topic, tp.partition), at) for tp, at in positions.items()]
            again_from = await oldest_time(reader, everyone)
        fresh = {tp: at for tp, at in positions.items() if committed[tp] is None}
        if fresh:
            # Before the first answer: with answers and no commit, a next owner would start behind them.
            await consumer.commit_positions(fresh)
        every = [positions.get(tp, -1) for tp in ensemble.inputs_of(partition)]
        since = replay_from, again_from
        count = await _read_back(answered, ensemble, join, since, every, fused, (begin, end))
    return Takeover(tuple(every), count)


def _say_unfenced(fused: TopicPartition, transactional_id: str) -> None:
    """A fence keeps out who fenced before under the same id. Nobody ever did, or the brokers forgot it."""
    log.warning(
        "%s partition %d holds answers, but nobody has fenced it as %s within the brokers' memory "
        "(transactional.id.expiration.ms): a worker of another `app` that writes there, or one frozen since "
        "before, would not be kept out. After a change of `app` or a long pause that is as it should be; "
        "else look for the other deployment and stop it.",
        *fused,
        transactional_id,
    )


async def _positions_in_shadow(
    reader: LogReader, inputs: list[TP], committed: dict[TP, int | None], members_at: int | None
) -> dict[TP, int]:
    """Where to start topics that only members in shadow publish in: at the commit, or without one where the
    members stand (``members_at``, ms; None: at their end). What it published before has no request to come.
    """
    positions = {}
    spans = await reader.spans([TopicPartition(tp.topic, tp.partition) for tp in inputs])
    for tp in inputs:
        at = TopicPartition(tp.topic, tp.partition)
        first, end = spans[at]
        offset = committed[tp]
        if offset is None:
            found = None if members_at is None else await reader.offset_at(at, members_at)
            offset = end if found is None else found
        positions[tp] = max(offset, first)
    return positions


async def _positions(
    reader: LogReader,
    ensemble: FusedEnsemble,
    inputs: list[TP],
    committed: dict[TP, int | None],
    earliest: int | None,
) -> list[int]:
    """Where to start each input: its commit, or, without one, no earlier than fused p itself, whose first
    record was appended at ``earliest`` (ms), plus the lateness horizon.
    """
    positions = []
    spans = await reader.spans([TopicPartition(tp.topic, tp.partition) for tp in inputs])
    for tp in inputs:
        at = TopicPartition(tp.topic, tp.partition)
        first, end = spans[at]
        offset = committed[tp]
        if offset is None and earliest is None:
            positions.append(first)
        elif offset is None:
            assert earliest is not None
            found = await reader.offset_at(at, earliest + ensemble.lateness_horizon_ms)
            positions.append(end if found is None else found)
        else:
            positions.append(max(offset, first))
    return positions


async def _read_back(
    reader: LogReader,
    ensemble: FusedEnsemble,
    join: PartitionJoin,
    since: tuple[int | None, int | None],
    positions: list[int],
    fused: TopicPartition,
    span: tuple[int, int],
) -> int:
    """Fill the index with the ids that ended within two lateness horizons of ``since`` (ms): the oldest
    record still to be read of the topics whose records open requests, and of all; None: there is none.

    What was said in shadow may be older than that by far, where nothing has come since: it was held for a
    request, and log time stood still. Answers that have it are read back too.
    """
    replay_from, again_from = since
    newest = replay_from if replay_from is not None else await reader.last_time(fused)
    if newest is None:
        return 0
    oldest = newest - 2 * ensemble.lateness_horizon_ms
    start = await reader.offset_at(fused, oldest if again_from is None else min(oldest, again_from))
    if start is None:
        return 0
    history = FusedHistory(join, {topic: t for t, topic in enumerate(ensemble.inputs)}, positions)
    async for columns in reader.read(fused, max(start, span[0]), span[1]):
        history.note(columns, again_from)
    return history.requests
