"""Ending tasks, also those that lose a cancellation."""

from __future__ import annotations

import asyncio

from stream_ensemble.stores import background


async def test_a_task_that_loses_a_cancellation_is_asked_again() -> None:
    lost = 0

    async def deaf() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await asyncio.wait_for(background.end([task]), 10)
    assert lost == 2
    assert task.cancelled()


async def test_what_tasks_end_with_is_dropped() -> None:
    async def fails() -> None:
        raise ValueError

    async def ends() -> None:
        return

    tasks = [asyncio.create_task(fails()), asyncio.create_task(ends())]
    await asyncio.sleep(0)
    await background.end(tasks)
    await background.end([])
    assert all(task.done() for task in tasks)
