"""At least once without looking after single records: which offsets may be committed."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

P = TypeVar("P")


class Epoch(Generic[P]):
    """A second of reading: ``begun_at`` is what had been read before, ``pending`` how many of the requests
    first seen in it wait for members.
    """

    __slots__ = ("begun_at", "pending")

    def __init__(self, begun_at: P) -> None:
        self.begun_at = begun_at
        self.pending = 0


class Epochs(Generic[P]):
    """Requests by the epoch they were first seen in.

    All requests that were seen before the oldest epoch with pending ones are answered, so the positions at
    its beginning are safe, once what was produced is acknowledged.
    """

    def __init__(self, positions: P) -> None:
        self.current = Epoch(positions)
        self._epochs = deque([self.current])

    def turn(self, positions: P) -> P:
        """Begin an epoch at ``positions``; returns those that are safe."""
        self.current = Epoch(positions)
        self._epochs.append(self.current)
        while not self._epochs[0].pending and len(self._epochs) > 1:
            self._epochs.popleft()
        return self._epochs[0].begun_at
