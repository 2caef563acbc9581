"""The effects a worker has on the world, in their order, and crashes just before or after any of them.

The tables in docs/effects.md have the same names in the same order; a test holds that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

#: What a fuser does, from the moment it is assigned a partition.
FUSER = (
    "ask heartbeat",
    "fence",
    "commit first positions",
    "read",
    "publish fused",
    "publish aside",
    "acknowledge",
    "commit",
)
#: What one does instead of publishing and committing, where answers are written in transactions.
TRANSACTED = ("write records", "write offsets", "commit transaction")
#: What a learner does, from the moment it is assigned a partition.
LEARNER = (
    "ask heartbeat",
    "fence",
    "write store",
    "read",
    "write records",
    "write offsets",
    "commit transaction",
    "write redis field",
    "write redis marker",
)


class CrashPoint(NamedTuple):
    """Where a worker crashes: before or after the n-th ``effect`` of a host from ``since`` on."""

    host: str
    since: float
    effect: str
    nth: int
    after: bool


class Lost:
    """What a request answers that never arrived."""


LOST = Lost()


class Effects:
    """Counts effects, tells the trace, and lets processes crash around them."""

    def __init__(self, points: list[CrashPoint], now: Callable[[], float]) -> None:
        self._now = now
        self._waiting: dict[tuple[str, str], list[list[Any]]] = {}
        for point in points:
            self._waiting.setdefault((point.host, point.effect), []).append([point, point.nth])
        self.counts: dict[str, int] = {}
        #: (role, effect, after) of every crash that came about.
        self.crashed: list[tuple[str, str, bool]] = []
        self.trace: Callable[[str, str, str], None] | None = None

    def do(self, process: Any, effect: str, detail: Any, act: Callable[..., Any], *args: Any) -> Any:
        """Have an effect, unless the process crashes before it."""
        point = self._due(process, effect)
        if point is not None and not point.after:
            self._crash(process, point)
            return LOST
        result = act(*args)
        if self.trace is not None:
            self.trace(process.name, effect, str(detail()) if callable(detail) else str(detail))
        if point is not None:
            self._crash(process, point)
        return result

    def _due(self, process: Any, effect: str) -> CrashPoint | None:
        waiting = self._waiting.get((process.name, effect))
        if not waiting or process.dead:
            return None
        now = self._now()
        for place, entry in enumerate(waiting):
            point: CrashPoint = entry[0]
            if now >= point.since:
                entry[1] -= 1
                if entry[1] <= 0:
                    del waiting[place]
                    return point
        return None

    def _crash(self, process: Any, point: CrashPoint) -> None:
        self.crashed.append((process.role, point.effect, point.after))
        process.crash(f"{'after' if point.after else 'before'} {point.effect}")
