"""Which partition a request id belongs to: murmur2 as in Kafka's Java client, for one id or a whole chunk.

Source: ``org.apache.kafka.common.utils.Utils.murmur2`` and ``toPositive``. Java's producers place a key by
``toPositive(murmur2(key)) % partitions``; so does every part of this package, whatever client wrote a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF

# Kept as numpy scalars: converting a Python integer costs as much as the arithmetic on a small chunk.
_M32 = np.uint32(_M)
_SHIFT_24 = np.uint32(24)
_SHIFT_15 = np.uint32(15)
_SHIFT_13 = np.uint32(13)
_POSITIVE32 = np.uint32(_POSITIVE)


def murmur2(key: bytes) -> int:
    """Java's murmur2 of ``key``, as an unsigned 32-bit integer. About 3 us for 32 bytes."""
    length = len(key)
    whole = length & ~3
    h = _SEED ^ length
    for k in _words(length // 4).unpack_from(key):
        k = k * _M & _MASK
        k ^= k >> 24
        h = (h * _M ^ k * _M) & _MASK
    if whole < length:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@lru_cache(maxsize=256)
def _words(count: int) -> Struct:
    return Struct(f"<{count}I")


def partition_of(key: bytes, partitions: int) -> int:
    """The canonical partition of ``key`` among ``partitions``."""
    return (murmur2(key) & _POSITIVE) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> NDArray[np.int32]:
    """The canonical partition of every key.

    Args:
        keys: N keys of any mix of lengths; keys of equal length are hashed together.
        partitions: how many partitions the topic has.

    Returns:
        N partition numbers, in the order of ``keys``.
    """
    lengths = set(map(len, keys))
    if len(lengths) == 1:
        return _placed(murmur2_rows(_rows(keys, lengths.pop())), partitions)
    by_length: dict[int, list[int]] = {}
    for position, key in enumerate(keys):
        by_length.setdefault(len(key), []).append(position)
    hashes = np.empty(len(keys), np.uint32)
    for length, positions in by_length.items():
        hashes[positions] = murmur2_rows(_rows([keys[position] for position in positions], length))
    return _placed(hashes, partitions)


def murmur2_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Java's murmur2 of N keys of one length.

    Args:
        rows: ``N x L`` bytes, one key a row, each row contiguous.

    Returns:
        N hashes.
    """
    length = rows.shape[1]
    whole = length & ~3
    h = np.full(len(rows), _SEED ^ length, np.uint32)
    if whole:
        # L/4 x N: the first mixing does not depend on the lane before, so it is done for all lanes at once.
        lanes = np.ascontiguousarray(rows[:, :whole]).view("<u4").T * _M32
        lanes ^= lanes >> _SHIFT_24
        lanes *= _M32
        for lane in lanes:
            h *= _M32
            h ^= lane
    if whole < length:
        for place, column in enumerate(range(whole, length)):
            h ^= rows[:, column].astype(np.uint32) << np.uint32(8 * place)
        h *= _M32
    h ^= h >> _SHIFT_13
    h *= _M32
    h ^= h >> _SHIFT_15
    return h


def _rows(keys: Sequence[bytes], length: int) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), length)


def _placed(hashes: NDArray[np.uint32], partitions: int) -> NDArray[np.int32]:
    hashes &= _POSITIVE32
    return (hashes % np.uint32(partitions)).astype(np.int32)
