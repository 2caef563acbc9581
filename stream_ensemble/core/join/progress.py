"""How far each input topic of a partition has been read, and since when a member has been silent.

All evidence that a prediction did not come is gathered here; nothing in it compares a worker's clock with a
broker's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEVER = float("-inf")
#: A member is silent only if it was expected in this many requests it did not answer.
SEVERAL = 3
#: Between two looks at the end of a topic that are further apart (s) than this, or than half the window where
#: that is more, the brokers or this process may have been away: then nobody could be heard.
_UNBROKEN_S = 1.0
#: Silence counts while the last look at the end is no older (s) than this, or than three of the usual pauses.
_JUST_NOW_S = 0.25


@dataclass(slots=True)
class TopicProgress:
    """One input topic at this partition.

    ``log_time``: largest append time read (ms), or known to be passed. ``next_offset``: first offset not
    yet processed. ``end_asked_at``: monotonic time (s) at which the newest fetch was sent that was answered
    with "you are at the end". ``pause``: between the two newest of them (s); 0 where nobody looked for long.
    ``idle``: nothing has come for long although it is read to its end; ``moved_to`` and ``moved_at``: its
    ``log_time`` when that was looked at last, and since when it was seen to be so (s).
    """

    log_time: int = -1
    next_offset: int = -1
    end_asked_at: float = _NEVER
    pause: float = 0.0
    unreadable: bool = False
    idle: bool = False
    moved_to: int | None = None
    moved_at: float = _NEVER


class Progress:
    """Evidence for T topics and K members; ``topic_of[k]`` is where member k publishes."""

    def __init__(self, topics: int, topic_of: list[int], silence_after: float) -> None:
        self.topics = [TopicProgress() for _ in range(topics)]
        self.topic_of = topic_of
        self.silence_after = silence_after
        self._unbroken = max(_UNBROKEN_S, silence_after / 2)
        self._at_end_since: list[float | None] = [None] * len(topic_of)
        self._expected_since: list[float | None] = [None] * len(topic_of)
        self._missed = [0] * len(topic_of)
        self.silent = np.zeros(len(topic_of), np.bool_)
        self.some_silent = False
        #: Topics whose records open requests: not those that only members in shadow publish in.
        self.leading: Sequence[int] = range(topics)

    def read(self, topic: int, newest: int, next_offset: int) -> None:
        """A chunk was processed: its newest append time (-1 when it held no record) and the offset after
        it."""
        state = self.topics[topic]
        state.log_time = max(state.log_time, newest)
        state.next_offset = max(state.next_offset, next_offset)

    def heard(self, member: int) -> None:
        """Member has a record in the log: it is not silent."""
        self._at_end_since[member] = None
        self._expected_since[member] = None
        self._missed[member] = 0
        self._speaks(member)

    def _speaks(self, member: int) -> None:
        if self.silent[member]:
            self.silent[member] = False
            self.some_silent = bool(self.silent.any())

    def expecting(self, now: float) -> None:
        """A request opened at monotonic time ``now``: every member is expected to answer."""
        self._expected_since = [now if since is None else since for since in self._expected_since]

    def missed(self, member: int, times: int) -> None:
        """Member was given up in ``times`` more requests."""
        self._missed[member] += times

    def at_end(self, topic: int, asked_at: float, offset: int) -> bool:
        """A fetch sent at monotonic ``asked_at`` from ``offset`` was answered "at the end". Returns whether
        that is news.

        It proves something only when everything before ``offset`` has been processed.
        """
        state = self.topics[topic]
        if offset > state.next_offset or asked_at <= state.end_asked_at:
            return False
        pause = asked_at - state.end_asked_at
        unbroken = pause <= self._unbroken
        state.end_asked_at, state.pause = asked_at, pause if unbroken else 0.0
        for member, its_topic in enumerate(self.topic_of):
            if its_topic == topic:
                self._note_silence(member, asked_at, unbroken)
        return True

    def _note_silence(self, member: int, asked_at: float, unbroken: bool) -> None:
        since = self._at_end_since[member]
        if since is None or not unbroken:
            since = self._at_end_since[member] = asked_at
            self._speaks(member)
        expected = self._expected_since[member]
        if expected is None or self._missed[member] < SEVERAL:
            return
        if asked_at - max(since, expected) >= self.silence_after:
            self.silent[member] = self.some_silent = True

    def is_quiet(self, member: int, now: float) -> bool:
        """Is ``member`` silent, and was its topic read to its end just before monotonic ``now`` (s)?

        What it says after a pause of ours or of the brokers may not be read yet.
        """
        topic = self.topics[self.topic_of[member]]
        recent = now - topic.end_asked_at <= max(_JUST_NOW_S, 3 * topic.pause)
        return bool(self.silent[member]) and recent

    def given_up(
        self, member: int, due_appended: NDArray[np.int64], due_monotonic: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """For R requests with these dues: may ``member`` no longer be waited for? Shape: R."""
        state = self.topics[self.topic_of[member]]
        if state.unreadable:
            return np.ones(len(due_appended), np.bool_)
        passed: NDArray[np.bool_] = (due_appended <= state.log_time) | (due_monotonic <= state.end_asked_at)
        return passed

    def note_idle(self, now: float, horizon: float) -> None:
        """Which topics are idle at monotonic ``now`` (s): nothing came in them for a lateness ``horizon``
        (s), of which their ends were asked for in the last half.
        """
        for topic in self.topics:
            if topic.moved_to != topic.log_time:
                topic.moved_to, topic.moved_at = topic.log_time, now
            topic.idle = now - topic.moved_at > horizon and now - topic.end_asked_at < horizon / 2

    def oldest_log_time(self) -> int:
        """The append time (ms) below which nothing that opens a request will be read, but for less than a
        lateness horizon; -1 when a topic has not been read.

        What comes in an idle topic is appended after its end was asked for, hence after what was read of the
        others by then. Without leaving them out, a topic that nobody writes to would keep this for ever.
        """
        moving = [self.topics[t].log_time for t in self.leading if not self.topics[t].idle]
        return min(moving or [self.topics[t].log_time for t in self.leading])


def furthest_ahead(log_times: Sequence[int], at_end: Sequence[bool]) -> list[bool]:
    """Which of T topics to stop reading when no more requests can be held. Shape: T.

    Those that have more to give and are ahead, in log time, of the one furthest behind: that one must go on,
    or nothing could end. A topic that was read to its end neither waits nor is waited for.
    """
    behind = min((time for time, done in zip(log_times, at_end, strict=True) if not done), default=None)
    return [
        behind is not None and not done and time > behind
        for time, done in zip(log_times, at_end, strict=True)
    ]
