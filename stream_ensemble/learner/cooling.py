"""Which segments of one partition are due to leave Redis, for nobody has labelled or asked for them. No I/O.

It only says when to look. Whether a segment leaves is decided in Redis, in one instant, by what all owners
wrote there; so a belief that is wrong here costs a look.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from stream_ensemble.stores.contributions import Key

#: After so long (ms) one that could not leave is looked at again: a value is damaged, or Redis was away.
_AGAIN_MS = 60_000


class Cooling:
    """When to look at each segment again.

    Args:
        after_s: how long a segment stays without a label; 0: for ever.
        taught_at: when a segment was last taught or wanted, as far as this owner knows (ms).

    Attributes:
        cold: segments that this owner knows to be cold.
    """

    def __init__(self, after_s: float, taught_at: Callable[[Key], int]) -> None:
        self.cold: set[Key] = set()
        self._after_ms = round(after_s * 1000)
        self._taught_at = taught_at
        # One entry for each segment that is not cold; what is taught meanwhile is noticed when it is due.
        self._due: list[tuple[int, Key]] = []

    @property
    def on(self) -> bool:
        """Does any segment ever leave?"""
        return self._after_ms > 0

    def before(self, now: int) -> int:
        """Up to when the last label of a segment must have come for it to be cold at ``now`` (ms)."""
        return now - self._after_ms

    def is_cold(self, key: Key, now: int) -> bool:
        """Is a segment to be marked as cold rather than written? So far as this owner knows."""
        return self.on and key.segment is not None and self._taught_at(key) <= self.before(now)

    def warm(self, key: Key, *, new: bool) -> None:
        """A segment is offered to Redis, for the first time if it is ``new``."""
        if self.on and key.segment is not None and (new or key in self.cold):
            heapq.heappush(self._due, (self._taught_at(key) + self._after_ms, key))
        self.cold.discard(key)

    def due(self, now: int, most: int) -> list[Key]:
        """Segments to be taken out of Redis if the other owners' labels allow; ``looked`` has to follow."""
        found: list[Key] = []
        while self._due and len(found) < most and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            if self.is_cold(key, now):
                found.append(key)
            else:
                self._later(key, self._taught_at(key))
        return found

    def looked(self, key: Key, answer: int | None, now: int) -> None:
        """What became of one that was due, as ``ContributionStore.cool`` says it; None if it did not."""
        if answer is None:
            heapq.heappush(self._due, (now + _AGAIN_MS, key))
        elif answer > 0 or not self.is_cold(key, now):
            # A label that came while Redis answered brings it back at once.
            self._later(key, max(answer, self._taught_at(key)))
        else:
            self.cold.add(key)

    def found(self, key: Key) -> None:
        """A segment stands in Redis, whatever was believed: so after a fail-over to an older replica."""
        self.warm(key, new=False)

    def _later(self, key: Key, taught_at: int) -> None:
        heapq.heappush(self._due, (taught_at + self._after_ms + 1, key))
