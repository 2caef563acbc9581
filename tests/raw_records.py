"""Record batches made byte by byte, as no client library would write them."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.raw_batches import next_begin

_BEHIND_CRC = struct.Struct(">hiqqqhii")
_HEAD = struct.Struct(">qiibI")
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
LOG_APPEND_TIME = 8


def varint(number: int) -> bytes:
    """As Kafka writes it."""
    left = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left])


def sized(content: bytes | None) -> bytes:
    """Bytes behind their length, or a null."""
    return varint(-1) if content is None else varint(len(content)) + content


def record(
    delta: int, key: bytes | None, value: bytes | None, headers: Sequence[tuple[bytes, bytes | None]] = ()
) -> bytes:
    """One record, ``delta`` offsets behind its batch's first."""
    body = b"\0" + varint(0) + varint(delta) + sized(key) + sized(value) + varint(len(headers))
    body += b"".join(sized(name) + sized(content) for name, content in headers)
    return varint(len(body)) + body


def batch(payload: bytes, count: int, attributes: int = 0, base_offset: int = 0) -> bytes:
    """``count`` records in a batch with a valid checksum, whatever the records are."""
    now = int(time.time() * 1000)
    behind = _BEHIND_CRC.pack(attributes, count - 1, now, now, -1, -1, -1, count) + payload
    return _HEAD.pack(base_offset, len(behind) + 9, -1, 2, calc_crc32c(behind)) + behind


def chunk(raws: Sequence[bytes], first: int = 0) -> Chunk:
    """Batches as one fetch brings them, read on from offset ``first``."""
    whole = memoryview(b"".join(raws))
    found, views, begin = [], [], 0
    source = MemoryRecords(bytes(whole))
    while source.has_next():
        found.append(source.next_batch())
        end = next_begin(whole, begin)
        views.append(whole[begin:end])
        begin = end
    return Chunk(TopicPartition("t", 0), first, found[-1].next_offset, found, size=len(whole), raws=views)


class Fixed:
    """Bytes that aiokafka's producer takes for a batch of its own."""

    def __init__(self, raw: bytes, count: int) -> None:
        self._raw = raw
        self._count = count

    def _build(self) -> bytes:
        return self._raw

    def size(self) -> int:
        return len(self._raw)

    def record_count(self) -> int:
        return self._count

    def closed(self) -> bool:
        return True

    def close(self) -> None:
        pass

    def _set_producer_state(self, *_: Any) -> None:
        pass


async def append(producer: AIOKafkaProducer, topic: str, partition: int, raw: bytes, count: int) -> int:
    """Have a broker append a batch as it is; returns the offset of its first record."""
    sent = await producer.send_batch(Fixed(raw, count), topic, partition=partition)
    return int((await sent).offset)
