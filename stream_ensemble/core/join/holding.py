"""Which topics of a partition to stop reading at the cap of open requests.

What ends open requests is the topics they wait for, and what opens more is the others. Log time does not tell
the two apart: where one member answers an hour before the others, its topic is an hour behind in log time as
long as there is a backlog, and reading it on would only open an hour's requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_ensemble.core.join.progress import furthest_ahead
from stream_ensemble.core.join.slots import OPEN
from stream_ensemble.core.join.state import PartitionJoin

#: So many requests are asked, evenly spread: all of them would take milliseconds, a hundred times a second.
SAMPLE = 1024
#: A topic is held that fewer wait for than this share of those who wait for the most awaited one.
_LESS = 0.5
#: And only where that one is awaited by this share of all: else it is not what keeps them open.
_MATTERS = 1 / 8
#: Nothing has ended for so long (s) though more was read: what is awaited does not come.
_STALLED_S = 1.0


def awaited(join: PartitionJoin, most: int = SAMPLE) -> tuple[list[int], int]:
    """By input topic, how many open requests wait for a member there that may not be given up yet; and how
    many were asked, at most ``most``.
    """
    slots, progress = join.slots, join.progress
    rows = slots.row(np.arange(slots.low, slots.high, -(-(slots.high - slots.low) // most) or 1))
    rows = rows[slots.state[rows] == OPEN]
    waiting = slots.expected[rows] & ~slots.answered[rows]
    counts = [np.zeros(len(rows), np.bool_) for _ in progress.topics]
    for member, topic in enumerate(progress.topic_of):
        missing = waiting & np.uint64(1 << member) != 0
        gone = progress.given_up(member, slots.due_appended[rows], slots.due_monotonic[rows])
        counts[topic] |= missing & ~gone
    return [int(count.sum()) for count in counts], len(rows)


def least_awaited(counts: Sequence[int], asked: int, at_end: Sequence[bool]) -> list[bool] | None:
    """Which of T topics to hold because few of the ``asked`` wait for them. Shape: T.

    A topic that was read to its end has nothing to give. None where none of the others is what keeps requests
    open, or all of them are alike.
    """
    most = max((count for count, done in zip(counts, at_end, strict=True) if not done), default=0)
    if most == 0 or most < asked * _MATTERS:
        return None
    chosen = [not done and count < most * _LESS for count, done in zip(counts, at_end, strict=True)]
    return chosen if any(chosen) else None


class Holding:
    """Chooses for one partition, and notices when its choice does not help.

    By who is awaited first; where nothing ends for a second although those are read on (members that do not
    answer each request, a live topic), by log time, until the partition is below the cap again.

    Attributes:
        by_time: whether log time decides now.
    """

    def __init__(self, join: PartitionJoin) -> None:
        self.by_time = False
        self._join = join
        self._ended = -1
        self._ended_at = 0.0
        self._read = 0

    def relax(self) -> None:
        """The partition is below the cap."""
        self.by_time = False
        self._ended = -1

    def choose(self, topics: Sequence[int], at_end: Sequence[bool], now: float) -> list[bool]:
        """Which of T input topics to hold at monotonic ``now`` (s). Shape: T."""
        self._note(now)
        if not self.by_time:
            counts, asked = awaited(self._join)
            chosen = least_awaited([counts[t] for t in topics], asked, at_end)
            if chosen is not None:
                return chosen
        return furthest_ahead([self._join.progress.topics[t].log_time for t in topics], at_end)

    def _note(self, now: float) -> None:
        ledger = self._join.ledger
        ended = ledger.complete + ledger.partial + ledger.fallback + ledger.expired
        read = sum(topic.next_offset for topic in self._join.progress.topics)
        if ended != self._ended:
            self._ended, self._ended_at, self._read = ended, now, read
        elif now - self._ended_at > _STALLED_S and read > self._read:
            self.by_time = True
