"""At the cap of open requests: the topics these wait for are read on, whatever the append times say."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.join.holding import SAMPLE, Holding, awaited, least_awaited
from stream_ensemble.core.join.records import Predictions
from stream_ensemble.core.join.state import JoinRules, PartitionJoin

HOUR = 3_600_000
TOPICS = range(4)
NOBODY = [False] * 4
#: Both members' topics, a third member's, and the requests topic.
RULES = JoinRules(
    members=3,
    values=2,
    topic_of=(0, 1, 2),
    topics=4,
    partition=0,
    partitions=1,
    deadline_ms=2 * HOUR,
    quorum=1,
    has_prior=False,
    silence_after_ms=4 * HOUR,
    lateness_horizon_ms=3 * HOUR,
)


def predict(join: PartitionJoin, member: int, numbers: range, appended: int) -> None:
    n = len(numbers)
    times = np.full(n, appended)
    ids = [b"r%d" % number for number in numbers]
    rows = Predictions(member, ids, np.full((n, 2), 0.5), None, times, times, np.array(numbers))
    join.add_predictions(rows, 0.0)
    join.progress.read(member, appended, numbers.stop)


@pytest.fixture
def join() -> PartitionJoin:
    """Member 0 answered an hour before the others, and is read far ahead of them."""
    state = PartitionJoin(RULES)
    predict(state, 0, range(100), HOUR)
    predict(state, 1, range(10), 2 * HOUR)
    predict(state, 2, range(10), 2 * HOUR)
    return state


def test_who_is_awaited_is_read_though_it_is_ahead_in_log_time(join: PartitionJoin) -> None:
    assert awaited(join) == ([0, 90, 90, 0], 90)
    assert Holding(join).choose(TOPICS, NOBODY, 0.0) == [True, False, False, True]


def test_who_may_be_given_up_is_not_awaited(join: PartitionJoin) -> None:
    join.progress.read(1, 3 * HOUR, 200)
    assert awaited(join)[0] == [0, 0, 90, 0]


def test_many_are_asked_by_a_sample_of_them(join: PartitionJoin) -> None:
    predict(join, 0, range(100, 50_000), HOUR)
    counts, asked = awaited(join)
    assert SAMPLE / 2 < asked <= SAMPLE
    assert counts == [0, asked, asked, 0]


def test_a_topic_at_its_end_is_neither_held_nor_waited_for(join: PartitionJoin) -> None:
    predict(join, 2, range(10, 100), 2 * HOUR)
    at_end = [False, True, False, False]
    # All wait for member 1, who has nothing to give: as before, by log time.
    assert Holding(join).choose(TOPICS, at_end, 0.0) == [True, False, True, False]


def test_few_who_wait_say_nothing() -> None:
    assert least_awaited([0, 10], 100, [False, False]) is None
    assert least_awaited([0, 13], 100, [False, False]) == [True, False]
    assert least_awaited([0, 0], 0, [False, False]) is None


def test_where_all_are_awaited_alike_log_time_decides() -> None:
    join = PartitionJoin(RULES)
    for member in range(3):
        predict(join, member, range(member * 100, member * 100 + 100), HOUR + member)
    join.progress.read(3, HOUR, 1)
    assert awaited(join) == ([200, 200, 200, 0], 300)
    assert least_awaited([200, 200, 200], 300, [False] * 3) is None
    assert Holding(join).choose(range(3), [False] * 3, 0.0) == [False, True, True]


def test_where_nothing_ends_all_the_same_log_time_decides_until_the_cap_is_left(join: PartitionJoin) -> None:
    join.progress.read(3, 5 * HOUR, 1)
    holding = Holding(join)
    by_time, by_awaited = [False, True, True, True], [True, False, False, True]
    assert holding.choose(TOPICS, NOBODY, 0.0) == by_awaited
    # Member 1 goes on, with answers to other requests.
    join.progress.read(1, 2 * HOUR, 20)
    assert holding.choose(TOPICS, NOBODY, 0.9) == by_awaited
    assert holding.choose(TOPICS, NOBODY, 1.1) == by_time
    predict(join, 1, range(10, 20), 2 * HOUR)
    predict(join, 2, range(10, 20), 2 * HOUR)
    assert holding.choose(TOPICS, NOBODY, 1.2) == by_time
    holding.relax()
    assert holding.choose(TOPICS, NOBODY, 1.3) == by_awaited


def test_a_pause_of_the_brokers_says_nothing_about_who_is_awaited(join: PartitionJoin) -> None:
    join.progress.read(3, 5 * HOUR, 1)
    holding = Holding(join)
    chosen = holding.choose(TOPICS, NOBODY, 0.0)
    assert chosen == [True, False, False, True]
    assert holding.choose(TOPICS, NOBODY, 30.0) == chosen


def test_requests_that_end_keep_it_as_it_is(join: PartitionJoin) -> None:
    join.progress.read(3, 5 * HOUR, 1)
    holding = Holding(join)
    for second in range(5):
        assert holding.choose(TOPICS, NOBODY, 0.9 * second) == [True, False, False, True]
        some = range(10 + second, 11 + second)
        predict(join, 1, some, 2 * HOUR)
        predict(join, 2, some, 2 * HOUR)


def test_a_backlog_with_one_member_an_hour_ahead_is_read_within_the_cap_and_all_is_complete() -> None:
    join = PartitionJoin(RULES)
    holding = Holding(join)
    cap, fetched, total = 60, 20, 1000
    read = [0, 0, 0]
    held = [False] * 3
    highest = turn = 0
    while sum(read) < 3 * total:
        turn += 1
        for member in range(3):
            # Nothing of the others comes before the first has filled the cap.
            if read[member] == total or held[member] or (turn < 5 and member):
                continue
            some = range(read[member], read[member] + fetched)
            predict(join, member, some, HOUR * (2 if member else 1) + some.start)
            read[member] = some.stop
        highest = max(highest, join.open_requests)
        if join.open_requests < 0.9 * cap:
            holding.relax()
            held = [False] * 3
        else:
            held = holding.choose(range(3), [at == total for at in read], turn / 100)
    assert join.ledger.complete == total
    assert highest <= cap + fetched
