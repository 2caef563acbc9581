"""A batch and a change of the group do not happen at the same time, unless the batch takes too long."""

from __future__ import annotations

import asyncio

from stream_ensemble.sdk.batch_gate import BatchGate


async def test_closing_waits_for_the_batch_in_hand() -> None:
    gate = BatchGate(patience_s=10)
    assert await gate.enter(1)
    closing = asyncio.create_task(gate.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.leave()
    await closing
    assert not await gate.enter(0.01)


async def test_closing_goes_before_the_next_batch() -> None:
    gate = BatchGate(patience_s=10)
    assert await gate.enter(1)
    closing = asyncio.create_task(gate.close())
    await asyncio.sleep(0)
    gate.leave()
    assert not await gate.enter(0.01)
    await closing


async def test_opening_lets_batches_begin_again() -> None:
    gate = BatchGate(patience_s=10)
    await gate.close()
    await gate.open()
    assert await gate.enter(1)


async def test_a_batch_that_takes_too_long_does_not_hold_up_the_group_and_may_end_later() -> None:
    gate = BatchGate(patience_s=0.01)
    assert await gate.enter(1)
    await gate.close()
    await gate.open()
    assert not await gate.enter(0.01)
    gate.leave()
    assert await gate.enter(1)


async def test_closing_twice_and_opening_once_leaves_the_gate_open() -> None:
    gate = BatchGate(patience_s=0.01)
    await gate.close()
    await gate.close()
    await gate.open()
    assert await gate.enter(1)
