"""Taking partition p over: fence it, read back what already ended, and only then start reading.

The order matters (fence, committed offsets, end of fused p, its tail): after the fence nothing older can be
written, so the tail read afterwards is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiokafka.structs import TopicPartition
from faust.types import TP

from stream_ensemble.core.join.state import PartitionJoin
from stream_ensemble.errors import FencedError
from stream_ensemble.fuser.ensemble import FusedEnsemble
from stream_ensemble.fuser.history import FusedHistory
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.kafka.tail import LogReader, oldest_time
from stream_ensemble.kafka.transport import ChunkConsumer


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
    producer: FencedProducer,
    options: dict[str, Any],
    generation: int,
) -> Takeover:
    """Fence partition p and fill ``join`` with what ended before; returns where to start reading.

    Raises:
        FencedError: we are no longer a member of the group in ``generation``.
        ServerUnavailableError: a broker did not answer in time.
    """
    if not await consumer.heartbeat_accepted(generation):
        raise FencedError(f"not a member of the group in generation {generation}")
    fused = TopicPartition(ensemble.fused, partition)
    late = TopicPartition(ensemble.late, partition)
    await producer.fence(ensemble.transactional_id(partition), [fused, late])
    inputs = ensemble.inputs_of(partition)
    committed = await consumer.committed_offsets(inputs)
    async with LogReader(options) as reader:
        begin, end = await reader.begin_and_end(fused)
        positions = await _positions(reader, ensemble, inputs, committed, fused, (begin, end))
        fresh = {tp: at for tp, at in zip(inputs, positions, strict=True) if committed[tp] is None}
        if fresh:
            # Before the first answer: with answers and no commit, a next owner would start behind them.
            await consumer.commit_positions(fresh)
        count = await _read_back(reader, ensemble, join, inputs, positions, fused, (begin, end))
    return Takeover(tuple(positions), count)


async def _positions(
    reader: LogReader,
    ensemble: FusedEnsemble,
    inputs: list[TP],
    committed: dict[TP, int | None],
    fused: TopicPartition,
    span: tuple[int, int],
) -> list[int]:
    """Where to start each input: its commit, or, without one, no earlier than fused p itself plus the
    lateness horizon.
    """
    earliest: int | None = None
    if any(committed[tp] is None for tp in inputs):
        earliest = await reader.first_time(fused, *span)
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
    inputs: list[TP],
    positions: list[int],
    fused: TopicPartition,
    span: tuple[int, int],
) -> int:
    """Fill the index with the ids that ended within two lateness horizons of the oldest record still to be
    read.
    """
    replay_from = await oldest_time(
        reader,
        [(TopicPartition(tp.topic, tp.partition), at) for tp, at in zip(inputs, positions, strict=True)],
    )
    newest = replay_from if replay_from is not None else await reader.last_time(fused)
    if newest is None:
        return 0
    start = await reader.offset_at(fused, newest - 2 * ensemble.lateness_horizon_ms)
    if start is None:
        return 0
    history = FusedHistory(join, {topic: t for t, topic in enumerate(ensemble.inputs)}, positions)
    async for columns in reader.read(fused, max(start, span[0]), span[1]):
        history.note(columns, replay_from)
    return history.requests
