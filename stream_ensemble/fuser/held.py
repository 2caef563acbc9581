"""Offsets of records whose way out (late, dead-letter, forwarded) is not acknowledged yet."""

from __future__ import annotations


class HeldOffsets:
    """Per input topic, the offsets that must not be committed over."""

    def __init__(self, topics: int) -> None:
        self._held: list[dict[int, int]] = [{} for _ in range(topics)]

    def hold(self, topic: int, offset: int) -> None:
        """One more thing to be acknowledged for this record."""
        self._held[topic][offset] = self._held[topic].get(offset, 0) + 1

    def release(self, topic: int, offset: int) -> None:
        """One thing less."""
        left = self._held[topic][offset] - 1
        if left:
            self._held[topic][offset] = left
        else:
            del self._held[topic][offset]

    def lowest(self, topic: int) -> int | None:
        """The lowest held offset of a topic; None when nothing is held."""
        return min(self._held[topic], default=None)

    def __len__(self) -> int:
        return sum(len(held) for held in self._held)
