"""The weights topic: the learner's state of record, of which Redis is a view."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.learning.contribution import Contribution, from_base64, to_base64, to_bytes
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.messages import Controls, ControlState, Weights
from stream_ensemble.stores.contributions import Key, Order, Stored
from stream_ensemble.stores.control_state import CONTROLS, encode_state

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Weights).decode
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
    except msgspec.DecodeError as error:
        raise StateError(f"a record of a control state cannot be read: {error}") from error
    return Controlled(Order(record.generation, record.epoch, record.sequence), record.state)


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


class Written(NamedTuple):
    """The newest record of one key in one partition, and when it was written (ms)."""

    order: Order
    algorithm: str
    part: Contribution
    at: int


class Controlled(NamedTuple):
    """The newest control state of one partition."""

    order: Order
    state: ControlState


def as_stored(written: Written) -> Stored:
    """A record as it stands in Redis."""
    return Stored(written.order, to_bytes(written.part))


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
        found = {key: as_stored(written) for key, written in self.newest.items()}
        if self.controls is not None:
            found[CONTROLS] = Stored(self.controls.order, encode_state(self.controls.state))
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
        if key not in self.newest or self.newest[key].order <= order:
            self.newest[key] = Written(order, algorithm, part, at)


async def read_partition(reader: LogReader, tp: TopicPartition) -> PartitionLog:
    """One partition, read to its end.

    Raises:
        ServerUnavailableError: Kafka does not answer.
    """
    partition = PartitionLog(tp)
    await partition.read_on(reader)
    return partition


async def read_topic(
    options: Mapping[str, Any], topic: str, partitions: int
) -> list[tuple[Key, int, Stored]]:
    """Everything in the weights topic as it would stand in Redis: (key, partition, field).

    Raises:
        ServerUnavailableError: Kafka does not answer.
    """
    found = []
    async with LogReader(dict(options), committed_only=True) as reader:
        for partition in range(partitions):
            log_read = await read_partition(reader, TopicPartition(topic, partition))
            found += [(key, partition, stored) for key, stored in log_read.stored().items()]
    return found
