"""Record batches as their bytes, for who reads the records without an object each, and their checksums.

Format: https://kafka.apache.org/documentation/#recordbatch (version 2).
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from aiokafka import codec
from aiokafka.record.util import calc_crc32c

from stream_ensemble import compiled

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
_COMPRESSION: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_DECODERS: Final = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}


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
    """

    base_offset: int
    base_time: int
    time: int
    records: memoryview | bytes
    n: int


def opened(raw: memoryview) -> RawBatch | None:
    """A whole batch; None where it has a format of long ago or says what cannot be."""
    if len(raw) < HEADER.size:
        return None
    base, _, _, magic, _, attributes, _, base_time, newest, _, _, _, count = HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None
    packed = raw[HEADER.size :]
    compressed = attributes & _COMPRESSION
    records = _DECODERS[compressed](packed.tobytes()) if compressed else packed
    if not 0 <= count <= len(records):
        return None
    return RawBatch(base, base_time, newest if attributes & _LOG_APPEND_TIME else -1, records, count)


def next_begin(raw: memoryview, begin: int) -> int:
    """Where the batch ends that begins at ``begin``; may be behind the end of ``raw``."""
    return begin + _LENGTH.size + int(_LENGTH.unpack_from(raw, begin)[1])
