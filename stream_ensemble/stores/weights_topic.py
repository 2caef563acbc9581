"""The weights topic: the learner's state of record, of which Redis is a view."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.learning.contribution import Contribution, from_base64, to_base64, to_bytes
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.messages import Weights
from stream_ensemble.stores.contributions import Key, Order, Stored

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Weights).decode
_decode_key = msgspec.json.Decoder(Key).decode


def encode_key(key: Key) -> bytes:
    """The record's key: compaction keeps the newest contribution to each."""
    return msgspec.json.encode(key)


def encode_weights(key: Key, partition: int, order: Order, algorithm: str, part: Contribution) -> bytes:
    """The record's value."""
    return msgspec.json.encode(
        Weights(
            version=1,
            kind="weights",
            task=key.task,
            segment=key.segment,
            partition=partition,
            generation=order.generation,
            epoch=order.epoch,
            sequence=order.sequence,
            algorithm=algorithm,
            members=part.members,
            n=part.n,
            clock=part.clock,
            sums=to_base64(part.sums),
            maxima=to_base64(part.maxima),
        )
    )


def decode_weights(value: bytes) -> tuple[Key, Order, str, Contribution]:
    """Key, order, algorithm and contribution of a record's value.

    Raises:
        StateError: it cannot be read.
    """
    try:
        record = _decode(value)
    except msgspec.DecodeError as error:
        raise StateError(f"a weights record cannot be read: {error}") from error
    part = Contribution(
        record.members, from_base64(record.sums), from_base64(record.maxima), record.n, record.clock
    )
    order = Order(record.generation, record.epoch, record.sequence)
    return Key(record.task, record.segment), order, record.algorithm, part


async def read_partition(reader: LogReader, tp: TopicPartition) -> dict[Key, tuple[str, Stored]]:
    """The newest contribution to every key in one partition, read to its end: algorithm, and as it would
    stand in Redis.

    A record that cannot be read is left out, and said.

    Raises:
        ServerUnavailableError: Kafka does not answer.
    """
    newest: dict[Key, tuple[str, Stored]] = {}
    begin, end = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, begin, end):
        for record in columns.records:
            try:
                key, order, algorithm, part = decode_weights(record.value or b"")
            except StateError as error:
                log.error("%s partition %d offset %d: %s", tp.topic, tp.partition, record.offset, error)
                continue
            if key not in newest or newest[key][1].order <= order:
                newest[key] = algorithm, Stored(order, to_bytes(part))
    return newest


async def read_topic(
    options: Mapping[str, Any], topic: str, partitions: int, segments: int
) -> list[tuple[Key, int, Stored]]:
    """What is in the weights topic as it would stand in Redis: (key, partition, field).

    Args:
        segments: at most of so many of them, those changed last.

    Raises:
        ServerUnavailableError: Kafka does not answer.
    """
    left_out: set[Key] = set()
    newest = []
    async with LogReader(dict(options), committed_only=True) as reader:
        for partition in range(partitions):
            newest.append(await _newest(reader, TopicPartition(topic, partition), segments, left_out))
    return [
        (key, partition, stored)
        for partition, values in enumerate(newest)
        for key, stored in _decoded(topic, partition, values)
        if key not in left_out
    ]


async def _newest(
    reader: LogReader, tp: TopicPartition, segments: int, left_out: set[Key]
) -> Mapping[Key, bytes]:
    """The newest value of the whole and of the segments changed last, not read yet."""
    whole: dict[Key, bytes] = {}
    of_segments: OrderedDict[Key, bytes] = OrderedDict()
    begin, end = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, begin, end):
        for record in columns.records:
            try:
                key = _decode_key(record.key or b"")
            except msgspec.DecodeError:
                log.error("%s partition %d: a record whose key cannot be read", tp.topic, tp.partition)
                continue
            if key.segment is None:
                whole[key] = record.value or b""
                continue
            of_segments[key] = record.value or b""
            of_segments.move_to_end(key)
            if len(of_segments) > segments:
                left_out.add(of_segments.popitem(last=False)[0])
    return whole | of_segments


def _decoded(topic: str, partition: int, values: Mapping[Key, bytes]) -> Iterator[tuple[Key, Stored]]:
    for value in values.values():
        try:
            key, order, _, part = decode_weights(value)
        except StateError as error:
            log.error("%s partition %d: %s", topic, partition, error)
            continue
        yield key, Stored(order, to_bytes(part))
