"""Whatever is reordered, repeated, cut off, crashed or moved: one answer a request, each label once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation import faults, traffic
from tests.simulation.__main__ import each
from tests.simulation.effects import FUSER, LEARNER, TRANSACTED, CrashPoint
from tests.simulation.faults import Fault
from tests.simulation.run import Schedule, run
from tests.simulation.settings import PARTITIONS, VARIANTS
from tests.simulation.shrink import shrink

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "effects.md").read_text()
SEEDS = 100
EFFECTS = [("fuse", effect, False) for effect in FUSER] + [("fuse", effect, True) for effect in TRANSACTED]
EFFECTS += [("learn", effect, False) for effect in LEARNER]


def test_every_schedule_ends_with_one_answer_a_request_and_each_label_counted_once() -> None:
    shares = [range(first, first + 10) for first in range(0, SEEDS, 10)]
    failed = [one for found in each(shares, len(os.sched_getaffinity(0))) for one in found]
    assert failed == [], f"make simulate SEED={min(failed)[0]}"


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("role", "effect", "transacted"), EFFECTS)
def test_a_crash_between_any_two_effects(role: str, effect: str, transacted: bool, after: bool) -> None:
    """The hosts' first takeovers are the only ones that commit first positions."""
    at_takeover = effect in (*FUSER[:3], "ask heartbeat", "fence", "write store")
    since = 0.0 if at_takeover else 0.9
    points = [CrashPoint(f"{role}-{number}", since, effect, 1, after) for number in range(PARTITIONS)]
    crashes = tuple(Fault(since, "crash", point.host, 0.3, point) for point in points)
    number = EFFECTS.index((role, effect, transacted))
    outcome = run(Schedule(number, instead=crashes, transacted=transacted))
    assert outcome.violations == []
    assert (role, effect, after) in outcome.crashed


def test_the_page_names_the_effects_in_their_order() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]
    named = [row for row in rows if row in {*FUSER, *TRANSACTED, *LEARNER}]
    assert named == [*FUSER, *TRANSACTED, *LEARNER]


@pytest.mark.parametrize("seed", range(VARIANTS))
def test_a_schedule_is_large_and_a_tenth_of_it_bad_late_or_duplicate(seed: int) -> None:
    schedule = Schedule(seed)
    drawn = schedule.traffic()
    assert traffic.REQUESTS >= 200
    assert len({record.request for record in drawn.main if record.request >= 0}) == traffic.REQUESTS
    wrong = sum(count for kind, count in drawn.odd.items() if kind in traffic.WRONG)
    assert wrong >= 0.1 * (len(drawn.main) + len(drawn.tail))
    assert sum(map(faults.moves, schedule.faults())) >= faults.LEAST


def test_faults_of_every_kind_are_drawn() -> None:
    kinds = Counter(fault.kind for seed in range(SEEDS) for fault in faults.draw(seed))
    assert min(kinds.values()) >= 5
    assert len(kinds) == 14


def test_a_seed_always_gives_the_same_run() -> None:
    traces = []
    for _ in range(2):
        lines: list[tuple[str, str, str]] = []
        run(Schedule(4), lambda *said, lines=lines: lines.append(said))
        traces.append(lines)
    assert len(traces[0]) > 200
    assert traces[0] == traces[1]


def test_a_failing_schedule_is_shrunk_to_what_it_needs_to_fail() -> None:
    def still(schedule: Schedule) -> bool:
        return 17 not in schedule.without_requests and 1 not in schedule.without_faults

    small, outcome = shrink(Schedule(3), still)
    assert small.without_faults == frozenset(range(len(faults.draw(3)))) - {1}
    assert 17 not in small.without_requests
    assert len(small.without_requests) >= traffic.REQUESTS - 5
    assert outcome.violations == []
