"""From where to where each topic is read, so that what is seen fits together while workers go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from stream_ensemble.config import TopicNames
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.kafka.admin import PATIENCE_S

#: The learner commits offsets, verdicts and contributions in one transaction, but partitions learn of its end
#: one after the other: ends that stay for so long belong together.
_SETTLED_S = 0.05
_TRIES = 200
_ASK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of an ensemble. A topic's place in ``inputs`` is its number in the audit's places.

    Attributes:
        inputs: those of predictions, each once, then requests and feedback.
        dead_partitions: how many partitions the dead-letter topic has.
    """

    names: TopicNames
    inputs: tuple[str, ...]
    dead_partitions: int

    @staticmethod
    def of(names: TopicNames, dead_partitions: int) -> Topics:
        """Those of one ensemble."""
        predictions = dict.fromkeys(names.predictions)
        requests = (names.requests,) if names.requests else ()
        return Topics(names, (*predictions, *requests, names.feedback), dead_partitions)

    def number(self, topic: str) -> int:
        """Of an input topic; -1 for any other."""
        return self.inputs.index(topic) if topic in self.inputs else -1


@dataclass(frozen=True, slots=True)
class Span:
    """What is read of one topic partition.

    Attributes:
        first: the first offset there is. start, end: those read. committed: of the group that reads it.
    """

    first: int
    start: int
    end: int
    committed: int = 0


Spans = dict[TopicPartition, Span]


async def committed_offsets(client: AIOKafkaAdminClient, groups: Sequence[str]) -> dict[TopicPartition, int]:
    """The committed offsets of all the groups.

    Raises:
        ServerUnavailableError: the brokers do not tell.
    """
    found: dict[TopicPartition, int] = {}
    try:
        for group in groups:
            offsets = await _offsets_of(client, group)
            found |= {tp: max(0, meta.offset) for tp, meta in offsets.items()}
    except KafkaError as error:
        raise ServerUnavailableError(f"the offsets of {', '.join(groups)} cannot be read: {error}") from error
    return found


async def _offsets_of(client: AIOKafkaAdminClient, group: str) -> Mapping[Any, Any]:
    """Asked again for a while: a broker that never had a group first makes the topic of their offsets."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            offsets: Mapping[Any, Any] = await client.list_consumer_group_offsets(group)
            return offsets
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_ASK_AGAIN_S)


async def spans_of(
    consumer: AIOKafkaConsumer,
    topics: Topics,
    partitions: int,
    committed: Mapping[TopicPartition, int],
    begin_ms: int | None,
) -> Spans:
    """What to read, given offsets committed before: first where the outputs end, then where the inputs do.

    What lies before a committed offset has its output in what is read, and what a source names is read too.

    Args:
        begin_ms: inputs and the answers are read from the first record appended then; None: from their first.
    """
    names = topics.names
    dead = [TopicPartition(names.dead_letter, p) for p in range(topics.dead_partitions)]

    def all_of(*some: str) -> list[TopicPartition]:
        return [TopicPartition(topic, p) for topic in some for p in range(partitions)]

    learned = await _settled_ends(consumer, all_of(names.weights, names.applied))
    outputs = await consumer.end_offsets([*all_of(names.fused, names.late), *dead])
    inputs = await consumer.end_offsets(all_of(*topics.inputs))
    ends = learned | outputs | inputs
    begins = await consumer.beginning_offsets(list(ends))
    starts = dict(begins)
    if begin_ms is not None:
        timed = [*all_of(*topics.inputs, names.fused, names.late), *dead]
        found = await consumer.offsets_for_times(dict.fromkeys(timed, max(0, begin_ms)))
        starts |= {tp: ends[tp] if at is None else at.offset for tp, at in found.items()}
    return {tp: Span(begins[tp], starts[tp], ends[tp], committed.get(tp, 0)) for tp in ends}


async def _settled_ends(
    consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    settled: dict[TopicPartition, int] = {}
    before: dict[TopicPartition, int] = await consumer.end_offsets(tps)
    for _ in range(_TRIES):
        await asyncio.sleep(_SETTLED_S)
        ends: dict[TopicPartition, int] = await consumer.end_offsets(tps)
        moved = {tp.partition for tp in before if ends[tp] != before[tp]}
        settled |= {tp: end for tp, end in ends.items() if tp.partition not in moved}
        before = {tp: end for tp, end in ends.items() if tp.partition in moved}
        if not before:
            return settled
        tps = list(before)
    raise ServerUnavailableError(
        "what the learner writes did not come to rest for a moment, so labels applied cannot be held against "
        "labels learned; run the audit when it has less to do"
    )
