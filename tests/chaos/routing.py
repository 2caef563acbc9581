"""Which partition a key belongs to, as Java's clients compute it; aiokafka's own, not the product's."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(key: bytes, partitions: int) -> int:
    """murmur2 of the key, its sign bit taken away, modulo the number of partitions."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)
