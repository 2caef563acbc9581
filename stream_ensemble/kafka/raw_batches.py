"""Record batches as their bytes, for who reads the records without an object each, and their checksums.

Format: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c

from stream_ensemble import compiled
from stream_ensemble.kafka.unpacking import MOST, unpacked, unreadable

#: Base offset, length behind itself, leader epoch, magic, checksum, attributes, last offset less the base,
#: first and newest time, producer id, its epoch, sequence number, number of records.
HEADER: Final = Struct(">qiibIhiqqqhii")
MAGIC: Final = 2
#: The checksum stands here, and is of all that comes behind it.
CHECKSUM: Final = Struct(">I")
CHECKSUM_AT: Final = 17
_MAGIC_AT: Final = 16
#: Of which these tell what comes next.
_LENGTH: Final = Struct(">qi")
_ATTRIBUTES: Final = Struct(">h")
_ATTRIBUTES_AT: Final = 21
_COMPRESSION: Final = 0x07
TRANSACTIONAL: Final = 0x10
_LOG_APPEND_TIME: Final = 0x08


def crc32c(data: bytes | bytearray | memoryview) -> int:
    """The CRC-32C of ``data``, by the processor's instruction where there is one (ten times as fast)."""
    if compiled.AVAILABLE and compiled.records.HARDWARE:
        return compiled.records.crc32c(data)
    return int(calc_crc32c(data))


def is_intact(raw: memoryview) -> bool | None:
    """Does the checksum of a whole batch fit? None where it has a format of long ago."""
    if len(raw) < HEADER.size or raw[_MAGIC_AT] != MAGIC:
        return None
    [said] = CHECKSUM.unpack_from(raw, CHECKSUM_AT)
    return bool(crc32c(raw[CHECKSUM_AT + CHECKSUM.size :]) == said)


class RawBatch(NamedTuple):
    """The records of one batch, not compressed any more.

    Attributes:
        base_time: what the records' own times (ms) count from.
        time: when all were appended (ms); -1 where each says so itself.
        records: the bytes behind the header.
        n: how many records these are.
        packed: were they compressed?
    """

    base_offset: int
    base_time: int
    time: int
    records: memoryview | bytes
    n: int
    packed: bool


class PlainRecord(NamedTuple):
    """A record as ``plain_records`` reads it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def opened(raw: memoryview, most: int = MOST) -> RawBatch | None:
    """A whole batch; None where it has a format of long ago.

    Args:
        most: how many bytes its records may come to.

    Raises:
        RecordError: ``unreadable-batch``: it cannot be unpacked, or says what cannot be.
    """
    if len(raw) < HEADER.size:
        return None
    base, _, _, magic, _, attributes, _, base_time, newest, _, _, _, count = HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None
    compressed = attributes & _COMPRESSION
    records = unpacked(compressed, raw[HEADER.size :], most)
    if not 0 <= count <= len(records):
        raise unreadable(f"it says that it has {count} records in {len(records)} bytes")
    time = newest if attributes & _LOG_APPEND_TIME else -1
    return RawBatch(base, base_time, time, records, count, bool(compressed))


def next_begin(raw: memoryview, begin: int) -> int:
    """Where the batch ends that begins at ``begin``; may be behind the end of ``raw``."""
    return begin + _LENGTH.size + int(_LENGTH.unpack_from(raw, begin)[1])


def without_compression(raw: memoryview, batch: RawBatch) -> DefaultRecordBatch:
    """aiokafka's batch of records that are unpacked already."""
    header = bytearray(raw[: HEADER.size])
    attributes = _ATTRIBUTES.unpack_from(header, _ATTRIBUTES_AT)[0]
    _ATTRIBUTES.pack_into(header, _ATTRIBUTES_AT, attributes & ~_COMPRESSION)
    return DefaultRecordBatch(bytes(header) + batch.records)


def plain_records(batch: RawBatch) -> list[PlainRecord]:
    """Its records where aiokafka cannot: names of headers that are no UTF-8, for Java brokers let them pass.

    As Java's clients do, this shows what is no character as U+FFFD.

    Raises:
        RecordError: ``unreadable-batch``: these bytes are no records.
    """
    data = bytes(batch.records)
    records = []
    at = 0
    try:
        for _ in range(batch.n):
            record, at = _plain_record(data, at, batch)
            records.append(record)
    except (IndexError, ValueError) as error:
        raise unreadable(f"record {len(records)}: {error}") from None
    if at != len(data):
        raise unreadable(f"{len(data) - at} bytes behind its last record")
    return records


def _plain_record(data: bytes, at: int, batch: RawBatch) -> tuple[PlainRecord, int]:
    size, at = _varint(data, at)
    if not 0 < size <= len(data) - at:
        raise ValueError(f"{size} bytes where {len(data) - at} are left")
    end = at + size
    time_delta, at = _varint(data, at + 1)
    offset_delta, at = _varint(data, at)
    key, at = _sized(data, at)
    value, at = _sized(data, at)
    count, at = _varint(data, at)
    if not 0 <= count <= len(data):
        raise ValueError(f"{count} headers")
    headers = []
    for _ in range(count):
        name, at = _sized(data, at)
        if name is None:
            raise ValueError("a header without a name")
        content, at = _sized(data, at)
        headers.append((name.decode("utf-8", "replace"), content))
    if at != end:
        raise ValueError(f"it ends at {at}, not at {end} as it says")
    time = batch.base_time + time_delta if batch.time < 0 else batch.time
    return PlainRecord(batch.base_offset + offset_delta, time, key, value, headers), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where the next one does. aiokafka's own reads beyond the end."""
    raw = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        raw |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (raw >> 1) ^ -(raw & 1), at
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _sized(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = _varint(data, at)
    if size < 0:
        return None, at
    if size > len(data) - at:
        raise ValueError(f"{size} bytes where {len(data) - at} are left")
    return data[at : at + size], at + size
