"""A failing schedule with everything taken out of it that it does not need to fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation import faults
from tests.simulation.run import Outcome, Schedule, run
from tests.simulation.traffic import REQUESTS

Fails = Callable[[Schedule], bool]


def fails(schedule: Schedule) -> bool:
    """Does it violate anything?"""
    return bool(run(schedule).violations)


def shrink(schedule: Schedule, still: Fails = fails) -> tuple[Schedule, Outcome]:
    """Take faults out one by one, then requests by ever smaller parts, while it still fails."""
    for place in range(len(faults.draw(schedule.seed))):
        less = replace(schedule, without_faults=schedule.without_faults | {place})
        if still(less):
            schedule = less
    kept: list[int] = list(range(REQUESTS))
    part = len(kept) // 2
    while part >= 1:
        kept, schedule = _without_parts(schedule, kept, part, still)
        part //= 2
        if part < len(kept) // 50:
            # One by one would take minutes, and a reader has use for a few dozen.
            break
    return schedule, run(schedule)


def _without_parts(
    schedule: Schedule, kept: Sequence[int], part: int, still: Fails
) -> tuple[list[int], Schedule]:
    left = list(kept)
    for begin in range(0, len(kept), part):
        gone = kept[begin : begin + part]
        less = replace(schedule, without_requests=schedule.without_requests | frozenset(gone))
        if still(less):
            schedule = less
            left = [number for number in left if number not in less.without_requests]
    return left, schedule
