"""murmur2 and the canonical partition, against vectors published by Kafka and other clients' code."""

from __future__ import annotations

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2

from stream_ensemble.core.partitioning import murmur2, murmur2_rows, partition_of, partitions_of

# Signed 32-bit values from Kafka's own UtilsTest.testMurmur2.
KAFKA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


@pytest.mark.parametrize(("key", "expected"), KAFKA_VECTORS.items())
def test_murmur2_gives_the_values_of_kafkas_own_test(key: bytes, expected: int) -> None:
    assert signed(murmur2(key)) == expected


@pytest.mark.parametrize(("key", "expected"), KAFKA_VECTORS.items())
def test_the_vectorised_hash_gives_the_values_of_kafkas_own_test(key: bytes, expected: int) -> None:
    rows = np.frombuffer(key * 3, np.uint8).reshape(3, len(key))
    assert [signed(int(value)) for value in murmur2_rows(rows)] == [expected] * 3


def test_every_length_of_tail_is_hashed_as_by_aiokafka() -> None:
    keys = [bytes(range(255, 255 - length, -1)) for length in range(40)]
    assert [murmur2(key) for key in keys] == [aiokafka_murmur2(key) for key in keys]


def test_a_hash_with_the_sign_bit_set_is_made_positive_and_not_negated() -> None:
    assert murmur2(b"21") >= 2**31
    assert partition_of(b"21", 1000) == (-973932308 & 0x7FFFFFFF) % 1000


def test_a_chunk_of_mixed_lengths_keeps_the_order_of_its_keys() -> None:
    keys = [b"req-%d" % number**3 for number in range(200)]
    assert partitions_of(keys, 12).tolist() == [partition_of(key, 12) for key in keys]


def test_no_keys_have_no_partitions() -> None:
    placed = partitions_of([], 4)
    assert placed.shape == (0,)
    assert placed.dtype == np.int32


def test_an_empty_key_has_a_partition() -> None:
    assert partitions_of([b"", b""], 7).tolist() == [(aiokafka_murmur2(b"") & 0x7FFFFFFF) % 7] * 2


def test_one_partition_takes_every_key() -> None:
    assert partitions_of([b"a", b"bc", b"d" * 256], 1).tolist() == [0, 0, 0]


def test_rows_that_are_not_contiguous_hash_like_contiguous_ones() -> None:
    block = np.arange(6 * 40, dtype=np.uint8).reshape(6, 40)
    view = block[::2, 3:38]
    assert murmur2_rows(view).tolist() == [murmur2(row.tobytes()) for row in view]
