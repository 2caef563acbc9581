"""Tasks that run beside the work until they are told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_ASK_AGAIN_S = 0.05


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until they are done; what they end with is dropped.

    Asked again and again, because a client library that uses ``asyncio.wait_for`` loses a cancellation that
    comes together with its answer (Python 3.11, cpython issue 86296).
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        done, waiting = await asyncio.wait(waiting, timeout=_ASK_AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()
