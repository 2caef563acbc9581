"""The weights topic: the learner's state of record, of which Redis is a view."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.learning.contribution import (
    Contribution,
    from_base64,
    sound,
    to_base64,
    to_bytes,
)
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.messages import UNREADABLE, Controls, ControlState, Weights
from stream_ensemble.stores.contributions import Key, Order, Stored
from stream_ensemble.stores.control_state import CONTROLS, encode_state

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Weights).decode
_decode_key = msgspec.json.Decoder(Key).decode
_decode_controls = msgspec.json.Decoder(Controls).decode


def encode_key(key: Key) -> bytes:
    """The record's key: compaction keeps the newest contribution to each."""
    return msgspec.json.encode(key)


_CONTROLS_KEY = encode_key(CONTROLS)


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


def encode_controls(partition: int, order: Order, state: ControlState) -> bytes:
    """The value of the record of a partition's control state; its key is that of ``CONTROLS``."""
    return msgspec.json.encode(
        Controls(
            version=1,
            kind="controls",
            partition=partition,
            generation=order.generation,
            epoch=order.epoch,
            sequence=order.sequence,
            state=state,
        )
    )


def decode_controls(value: bytes) -> Controlled:
    """Read :func:`encode_controls` back.

    Raises:
        StateError: it cannot be read.
    """
    try:
        record = _decode_controls(value)
    except UNREADABLE as error:
        raise StateError(f"a record of a control state cannot be read: {error}") from error
    return Controlled(Order(record.generation, record.epoch, record.sequence), record.state)


def decode_weights(value: bytes) -> tuple[Key, Order, str, Contribution]:
    """Key, order, algorithm and contribution of a record's value.

    Raises:
        StateError: it cannot be read.
    """
    try:
        record = _decode(value)
    except UNREADABLE as error:
        raise StateError(f"a weights record cannot be read: {error}") from error
    part = sound(
        Contribution(
            record.members, from_base64(record.sums), from_base64(record.maxima), record.n, record.clock
        )
    )
    order = Order(record.generation, record.epoch, record.sequence)
    return Key(record.task, record.segment), order, record.algorithm, part


class Written(NamedTuple):
    """The newest record of one key in one partition as it would stand in Redis, and when it was written
    (ms).
    """

    stored: Stored
    algorithm: str
    at: int


class Controlled(NamedTuple):
    """The newest control state of one partition."""

    order: Order
    state: ControlState

    @property
    def stored(self) -> Stored:
        """As it would stand in Redis."""
        return Stored(self.order, encode_state(self.state))


class PartitionLog:
    """One partition of the weights topic, read on from where it was left.

    A record that cannot be read is left out, and said.

    Attributes:
        newest: the newest contribution to every key.
        controls: the newest control state; None: no control record was ever applied.
    """

    def __init__(self, tp: TopicPartition) -> None:
        self.newest: dict[Key, Written] = {}
        self.controls: Controlled | None = None
        self._tp = tp
        self._next = 0

    def stored(self) -> dict[Key, Stored]:
        """Everything in it as it would stand in Redis."""
        found = {key: written.stored for key, written in self.newest.items()}
        if self.controls is not None:
            found[CONTROLS] = self.controls.stored
        return found

    async def read_on(self, reader: LogReader) -> None:
        """Read to the end there is now.

        Raises:
            ServerUnavailableError: Kafka does not answer.
        """
        begin, end = await reader.begin_and_end(self._tp)
        async for columns in reader.read(self._tp, max(begin, self._next), end):
            places = zip(columns.records, columns.offsets.tolist(), columns.appended.tolist(), strict=True)
            for record, offset, at in places:
                try:
                    self._take(record, at)
                except StateError as error:
                    tp = self._tp
                    log.error("%s partition %d offset %d: %s", tp.topic, tp.partition, offset, error)
        self._next = max(self._next, end)

    def _take(self, record: Any, at: int) -> None:
        if record.key == _CONTROLS_KEY:
            controls = decode_controls(record.value or b"")
            if self.controls is None or self.controls.order <= controls.order:
                self.controls = controls
            return
        key, order, algorithm, part = decode_weights(record.value or b"")
        if key not in self.newest or self.newest[key].stored.order <= order:
            self.newest[key] = Written(Stored(order, to_bytes(part)), algorithm, at)


async def read_partition(reader: LogReader, tp: TopicPartition) -> PartitionLog:
    """One partition, read to its end.

    Raises:
        ServerUnavailableError: Kafka does not answer.
    """
    partition = PartitionLog(tp)
    await partition.read_on(reader)
    return partition


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
    """The newest value of the whole, of the control state, and of the segments changed last; not read yet."""
    whole: dict[Key, bytes] = {}
    of_segments: OrderedDict[Key, bytes] = OrderedDict()
    begin, end = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, begin, end):
        for record in columns.records:
            try:
                key = _decode_key(record.key or b"")
            except UNREADABLE:
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
    for key, value in values.items():
        try:
            if key == CONTROLS:
                yield key, decode_controls(value).stored
                continue
            named, order, _, part = decode_weights(value)
        except StateError as error:
            log.error("%s partition %d: %s", topic, partition, error)
            continue
        yield named, Stored(order, to_bytes(part))
