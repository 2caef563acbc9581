"""How long answers and labels were held up by each fault, told by append times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.chaos.answers_audit import Answer
from tests.chaos.schedule import Event

#: Answers later than this after their deadline, and labels learned later than this, are held up.
_SLACK_MS = 500
_LEARNED_MS = 2000


class Recovery(NamedTuple):
    """Seconds from the fault's begin until all was in time again; 0 if nothing was held up.

    ``lasted_s`` is how long the fault itself lasted, ``longest_s`` the longest time an answer took that was
    asked for from its begin on.
    """

    fault: str
    lasted_s: float
    answers_s: float
    labels_s: float
    longest_s: float


def recoveries(
    lasted: Sequence[tuple[Event, float, float]],
    first_ms: dict[str, int],
    answers: dict[str, Answer],
    label_times: Sequence[tuple[int, int]],
    deadline_ms: int,
    until_s: float,
) -> list[Recovery]:
    """One for each fault; of those that overlap each has the effects of both.

    Args:
        lasted: by event, when it began and ended (wall clock, s).
        label_times: for each learned label, when it could be learned and when it was (ms).
        until_s: when the traffic ended.
    """
    ordered = sorted(lasted, key=lambda each: each[1])
    found = []
    for place, (event, began_s, ended_s) in enumerate(ordered):
        # What was asked for just before the next fault suffers from that one.
        until_ms = (ordered[place + 1][1] if place + 1 < len(ordered) else until_s) * 1000 - 2 * _LEARNED_MS
        spans = [
            (first, answers[request_id].record.appended)
            for request_id, first in first_ms.items()
            if request_id in answers and began_s * 1000 - deadline_ms <= first < until_ms
        ]
        slow = [done for first, done in spans if done - first > deadline_ms + _SLACK_MS]
        stuck = [
            done
            for could, done in label_times
            if began_s * 1000 - _LEARNED_MS <= could < until_ms and done - could > _LEARNED_MS
        ]
        found.append(
            Recovery(
                event.fault,
                ended_s - began_s,
                max((done / 1000 - began_s for done in slow), default=0.0),
                max((done / 1000 - began_s for done in stuck), default=0.0),
                max(((done - first) / 1000 for first, done in spans), default=0.0),
            )
        )
    return found
