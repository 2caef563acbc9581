"""Virtual time, and an event loop for each simulated process: one queue of events for all, no thread.

A process that is stopped keeps what would have run until it resumes; one that crashed loses it. What a
process has sent is on the wire and no longer its own.
"""

from __future__ import annotations

import asyncio
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, ClassVar

import msgspec

#: The broker's clock at virtual time 0, in milliseconds since the epoch.
EPOCH_MS = 1_700_000_000_000
#: Tasks that are done are forgotten now and then, once there are so many.
_TASKS = 64


class Crashed(BaseException):
    """Raised out of whatever a process was doing when it crashed."""


class Handle(msgspec.Struct, gc=False):
    """A callback that waits for its turn in one process (None: in the world around them)."""

    process: Any
    callback: Callable[..., Any]
    args: tuple[Any, ...]
    when_: float = 0.0
    cancelled_: bool = False

    def cancel(self) -> None:
        """See ``asyncio.Handle``."""
        self.cancelled_ = True

    def cancelled(self) -> bool:
        """See ``asyncio.Handle``."""
        return self.cancelled_

    def when(self) -> float:
        """See ``asyncio.TimerHandle``."""
        return self.when_


class Clock:
    """What happens when, in all processes and between them."""

    def __init__(self) -> None:
        self.now = 0.0
        #: Brokers keep their own time: it may be set ahead of that of the processes.
        self.broker_ahead_ms = 0
        self.ready: deque[Handle] = deque()
        self._later: list[tuple[float, int, Handle]] = []
        self._count = 0

    def broker_ms(self) -> int:
        """The time the broker stamps on what is appended now."""
        return EPOCH_MS + self.broker_ahead_ms + int(self.now * 1000)

    def at(
        self, when: float, process: ProcessLoop | None, callback: Callable[..., Any], *args: Any
    ) -> Handle:
        """Call back at ``when``, in a process or (None) in the world around them."""
        handle = Handle(process, callback, args, when)
        self._count += 1
        heappush(self._later, (when, self._count, handle))
        return handle

    def forget(self) -> None:
        """Nothing happens any more. What waits refers to its process, which no collection finds by itself."""
        self.ready.clear()
        self._later.clear()

    def run(self, until: float) -> None:
        """Let everything happen that happens up to ``until``."""
        ProcessLoop.current = None
        ready, later = self.ready, self._later
        try:
            while True:
                if ready:
                    handle = ready.popleft()
                elif later and later[0][0] <= until:
                    when, _, handle = heappop(later)
                    self.now = max(self.now, when)
                else:
                    self.now = max(self.now, until)
                    return
                if handle.cancelled_:
                    continue
                process = handle.process
                if process is not None:
                    if process.stalled is not None:
                        process.stall(handle)
                        continue
                    # The world around the processes asks for no loop, so it need not be told that there is
                    # none.
                    if process is not ProcessLoop.current:
                        _set_running_loop(process)
                        ProcessLoop.current = process
                handle.callback(*handle.args)
        finally:
            _set_running_loop(None)
            ProcessLoop.current = None


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one process.

    Attributes:
        current: the one that runs, as asyncio knows it too, which takes longer to say so.
        stalled: what waits while the process is stopped; None while it runs.
        dead: it crashed or ended.
        complaints: what asyncio would have logged.
    """

    current: ClassVar[ProcessLoop | None] = None

    def __init__(self, clock: Clock, name: str, began: float) -> None:
        self.clock = clock
        self.name = name
        self.began = began
        self.stalled: list[Handle] | None = None
        self.dead = False
        self.complaints: list[str] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._look_at = _TASKS

    def time(self) -> float:
        """Monotonic seconds of this process's machine, which no other machine's clock agrees with."""
        return self.clock.now + self.began

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        """See ``asyncio``."""
        handle = Handle(self, callback, args)
        self.clock.ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> Handle:  # type: ignore[override]
        """See ``asyncio``."""
        return self.clock.at(self.clock.now + max(delay, 0.0), self, callback, *args)

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None) -> Handle:  # type: ignore[override]
        """See ``asyncio``."""
        return self.clock.at(when - self.began, self, callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        """See ``asyncio``."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None) -> Any:  # type: ignore[override]
        """See ``asyncio``."""
        task = asyncio.Task(coro, loop=self, name=name or "task")
        if len(self.tasks) > self._look_at:
            self.tasks = [one for one in self.tasks if not one.done()]
            self._look_at = _TASKS + 2 * len(self.tasks)
        self.tasks.append(task)
        return task

    def get_debug(self) -> bool:
        """See ``asyncio``."""
        return False

    def is_running(self) -> bool:
        """See ``asyncio``."""
        return True

    def is_closed(self) -> bool:
        """See ``asyncio``."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """See ``asyncio``."""
        if not self.dead:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    # --- the process's life -------------------------------------------------------------------------

    def stall(self, handle: Handle) -> None:
        """Keep what is to run for when the process resumes; a dead one forgets it."""
        if not self.dead and self.stalled is not None:
            self.stalled.append(handle)

    def stop(self) -> None:
        """As SIGSTOP."""
        if self.stalled is None:
            self.stalled = []

    def resume(self) -> None:
        """As SIGCONT."""
        if not self.dead and self.stalled is not None:
            self.clock.ready.extend(self.stalled)
            self.stalled = None

    def crash(self) -> None:
        """As SIGKILL: nothing of it runs any more."""
        self.dead = True
        self.stalled = []

    def bury(self) -> None:
        """End the coroutines of a process that is over, so that nothing of it runs when memory is freed."""
        self.crash()
        for task in self.tasks:
            if task.done():
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            _close(task.get_coro())
        self.tasks.clear()


def _close(coro: Any) -> None:
    for _ in range(20):
        try:
            coro.close()
            return
        except BaseException:
            # The code of a dead process may end as it likes.
            continue
