"""A chunk in parts: every record once, in order, each part with the offset to go on from."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner.slices import in_slices


def chunk(*sizes: int | None) -> Columns:
    """Records of these sizes; between two of them an offset is missing, as after compaction."""
    records = [Row(None, None if size is None else bytes(size), []) for size in sizes]
    offsets = 10 + 2 * np.arange(len(sizes))
    return Columns(records, offsets, offsets * 100)


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ((), [([], 99)]),
        ((1, 2, None), [([10, 12, 14], 99)]),
        ((4, 6, 1), [([10, 12], 14), ([14], 99)]),
        ((50, 50, 50), [([10], 12), ([12], 14), ([14], 99)]),
        ((1, 50), [([10, 12], 99)]),
    ],
)
def test_a_part_ends_with_the_record_that_makes_it_large(
    sizes: tuple[int, ...], parts: list[tuple[list[int], int]]
) -> None:
    found = list(in_slices(chunk(*sizes), 99, slice_bytes=10))
    assert [(part.offsets.tolist(), after) for part, after in found] == parts
    assert [part.appended.tolist() for part, _ in found] == [[100 * at for at in part] for part, _ in parts]
    assert [len(record.value or b"") for part, _ in found for record in part.records] == [
        size or 0 for size in sizes
    ]
