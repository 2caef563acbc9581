"""Two logs are read as one, by append time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np

from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.learner.replay import in_step


async def log(*chunks: list[int]) -> AsyncIterator[Columns]:
    for times in chunks:
        rows = [Row(b"k", b"v", []) for _ in times]
        yield Columns(rows, np.arange(len(times)), np.array(times))


async def test_chunks_come_in_the_order_of_their_times_and_answers_before_labels_of_the_same() -> None:
    merged = in_step(log([1, 4], [5], [9]), log([2], [5, 6], [20]))
    seen = [(is_fused, columns.appended.tolist()) async for is_fused, columns in merged]
    assert seen == [
        (True, [1, 4]),
        (False, [2]),
        (True, [5]),
        (False, [5, 6]),
        (True, [9]),
        (False, [20]),
    ]


async def test_either_may_be_empty() -> None:
    assert [each async for each, _ in in_step(log(), log([1], [2]))] == [False, False]
    assert [each async for each, _ in in_step(log([1]), log())] == [True]
    assert [each async for each in in_step(log(), log())] == []
