"""The vectorised partition equals aiokafka's for any keys."""

from __future__ import annotations

from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.partitioning import murmur2, partitions_of


@given(st.binary(max_size=64))
def test_one_key_hashes_as_by_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafka_murmur2(key)


@given(st.lists(st.binary(max_size=24), max_size=60), st.integers(1, 1024))
def test_any_mix_of_keys_is_placed_as_by_aiokafka(keys: list[bytes], partitions: int) -> None:
    expected = [(aiokafka_murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert partitions_of(keys, partitions).tolist() == expected


@given(st.lists(st.binary(min_size=9, max_size=9), min_size=1, max_size=60), st.integers(1, 1024))
def test_keys_of_one_length_are_placed_as_by_aiokafka(keys: list[bytes], partitions: int) -> None:
    expected = [(aiokafka_murmur2(key) & 0x7FFFFFFF) % partitions for key in keys]
    assert partitions_of(keys, partitions).tolist() == expected
