"""Batches of records to produce, filled many records a call; compiled where that is there.

Takes the place of aiokafka 0.14's private ``BatchBuilder``; ``tests/contract/test_private_api.py`` fails when
more is asked of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

from aiokafka import codec
from aiokafka.producer.message_accumulator import BatchBuilder

from stream_ensemble import compiled
from stream_ensemble.kafka.chunks import Headers
from stream_ensemble.kafka.raw_batches import CHECKSUM, CHECKSUM_AT, HEADER, MAGIC, TRANSACTIONAL, crc32c

_ENCODERS: Final = {1: codec.gzip_encode, 2: codec.snappy_encode, 3: codec.lz4_encode, 4: codec.zstd_encode}
_BEHIND_LENGTH: Final = 12
_NO_HEADERS: Final[Headers] = []


class PlainBuilder(BatchBuilder):
    """aiokafka's, which takes record by record."""

    def extend(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None,
        begin: int,
    ) -> int:
        """Take records from ``begin`` on until one does not fit, which closes the batch.

        Returns:
            The place of the first that was not taken.
        """
        carried = repeat(_NO_HEADERS) if headers is None else headers[begin:]
        now = _now()
        place = begin
        for key, value, own in zip(keys[begin:], values[begin:], carried, strict=False):
            if self.append(timestamp=now, key=key, value=value, headers=own) is None:
                break
            place += 1
        return place


class CompiledBuilder:
    """The same bytes, written by the kernel.

    Args:
        size: the batch is closed before it would be larger (bytes); one record always fits.
        compression: Kafka's number of a codec, 0 for none.
        transactional: it belongs to a transaction.
    """

    def __init__(self, size: int, compression: int, *, transactional: bool = False) -> None:
        self._records = compiled.records.Records(HEADER.size, size)
        self._compression = compression
        self._attributes = TRANSACTIONAL if transactional else 0
        self._first_time = self._last_time = 0
        self._producer = (-1, -1, 0)
        self._closed = False
        self._built: bytearray | None = None

    def extend(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None,
        begin: int,
    ) -> int:
        """As :meth:`PlainBuilder.extend`."""
        if self._closed:
            return begin
        now = _now()
        if not self.record_count():
            self._first_time = self._last_time = now
        place = self._records.append(keys, values, headers, begin, now - self._first_time)
        if place > begin:
            self._last_time = max(self._last_time, now)
        self._closed = place < len(keys)
        return place

    def close(self) -> None:
        """Take no more records."""
        self._closed = True

    def closed(self) -> bool:
        """Whether no more records are taken."""
        return self._closed

    def record_count(self) -> int:
        """How many there are."""
        return self._records.count

    def size(self) -> int:
        """Bytes, before compression until it is built."""
        return len(self._built) if self._built is not None else self._records.size

    def _set_producer_state(self, producer_id: int, epoch: int, sequence: int) -> None:
        self._producer = (producer_id, epoch, sequence)

    def _build(self) -> bytearray:
        self._closed = True
        if self._built is None:
            self._built = self._finished()
        return self._built

    def _finished(self) -> bytearray:
        batch = self._records.taken()
        attributes = self._attributes
        if self._compression:
            packed = _ENCODERS[self._compression](bytes(batch[HEADER.size :]))
            if HEADER.size + len(packed) < len(batch):
                batch[HEADER.size :] = packed
                attributes |= self._compression
        count, times = self._records.count, (self._first_time, self._last_time)
        HEADER.pack_into(
            batch,
            0,
            *(0, len(batch) - _BEHIND_LENGTH, -1, MAGIC, 0, attributes),
            *(count - 1, *times, *self._producer, count),
        )
        CHECKSUM.pack_into(batch, CHECKSUM_AT, crc32c(memoryview(batch)[CHECKSUM_AT + CHECKSUM.size :]))
        return batch


def _now() -> int:
    """The time all records of a call have (ms)."""
    return int(time.time() * 1000)


def batch_builder(size: int, compression: int, *, transactional: bool = False) -> Any:
    """The faster of the two that is there; arguments as :class:`CompiledBuilder`'s."""
    if compiled.AVAILABLE:
        return CompiledBuilder(size, compression, transactional=transactional)
    return PlainBuilder(size, compression, is_transactional=transactional)
