"""Record batches as their bytes, for who reads the records without an object each.

Format: https://kafka.apache.org/documentation/#recordbatch (version 2). Checksums are
looked at where the bytes are fetched.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from aiokafka import codec

_HEADER: Final = Struct(">qiibIhiqqqhii")
#: Of which these tell what comes next.
_LENGTH: Final = Struct(">qi")
_MAGIC: Final = 2
_COMPRESSION: Final = 0x07
_LOG_APPEND_TIME: Final = 0x08
_DECODERS: Final = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}


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
    if len(raw) < _HEADER.size:
        return None
    base, _, _, magic, _, attributes, _, base_time, newest, _, _, _, count = _HEADER.unpack_from(raw)
    if magic != _MAGIC:
        return None
    packed = raw[_HEADER.size :]
    compressed = attributes & _COMPRESSION
    records = _DECODERS[compressed](packed.tobytes()) if compressed else packed
    if not 0 <= count <= len(records):
        return None
    return RawBatch(base, base_time, newest if attributes & _LOG_APPEND_TIME else -1, records, count)


def next_begin(raw: memoryview, begin: int) -> int:
    """Where the batch ends that begins at ``begin``; may be behind the end of ``raw``."""
    return begin + _LENGTH.size + int(_LENGTH.unpack_from(raw, begin)[1])
