"""The join where time decides: late ones, replays, capacity, requests records before, between and after."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_ensemble.core.join.records import Cause, Decided, Predictions, Requests, Status, Verdict
from stream_ensemble.core.join.state import JoinRules, PartitionJoin

HORIZON = 10_000


def join(**changes: Any) -> PartitionJoin:
    rules = {
        "members": 2,
        "values": 2,
        "topic_of": (0, 1),
        "topics": 3,
        "partition": 0,
        "partitions": 1,
        "deadline_ms": 1000,
        "quorum": 1,
        "has_prior": False,
        "silence_after_ms": 2000,
        "lateness_horizon_ms": HORIZON,
    }
    return PartitionJoin(JoinRules(**(rules | changes)))


def predict(
    state: PartitionJoin, member: int, *ids: bytes, now: float = 0.0, appended: int = 100, offset: int = 0
) -> tuple[list[Verdict], Decided]:
    n = len(ids)
    times = np.full(n, appended)
    rows = Predictions(
        member, list(ids), np.full((n, 2), 0.5), None, times, times, np.arange(offset, offset + n)
    )
    verdicts, decided, _ = state.add_predictions(rows, now)
    state.progress.read(member, appended, offset + n)
    return [Verdict(v) for v in verdicts.tolist()], decided


def ask(
    state: PartitionJoin, request_id: bytes, *, members: int = 0, wait: int = 0, offset: int = 0
) -> Decided:
    rows = Requests(
        2,
        [request_id],
        np.array([100]),
        np.array([100]),
        np.array([offset]),
        np.array([members], np.uint64),
        np.array([wait]),
    )
    return state.add_requests(rows, 0.0)[1]


def at_end(state: PartitionJoin, moment: float) -> Decided:
    for topic, progress in enumerate(state.progress.topics):
        state.progress.at_end(topic, moment, progress.next_offset)
    return state.advance(moment)


def test_nobody_is_given_up_before_the_deadline_and_all_are_after_it() -> None:
    state = join()
    predict(state, 0, b"r", now=5.0)
    predict(state, 1, now=5.0)
    assert not len(at_end(state, 5.99))
    decided = at_end(state, 6.0)
    assert (decided.status.tolist(), decided.cause.tolist()) == ([Status.PARTIAL], [Cause.DEADLINE])


def test_a_late_prediction_of_a_request_ended_long_ago_does_not_open_it_again() -> None:
    state = join()
    predict(state, 0, b"r")
    _, decided = predict(state, 1, b"r")
    state.release(decided.slots)
    state.closed.add(state.slots.cut(state.slots.high), 100)
    assert predict(state, 0, b"r", appended=5000, offset=9)[0] == [Verdict.LATE]
    assert state.open_requests == 0


def test_a_prediction_used_before_a_restart_is_a_replay() -> None:
    state = join()
    state.closed.add([b"r"], 100)
    state.used_before[0] = {(4, 0)}
    assert predict(state, 0, b"r", b"r", offset=4)[0] == [Verdict.REPLAYED, Verdict.LATE]
    assert (state.ledger.replayed, state.ledger.late, state.ledger.predictions) == (1, 1, 1)


def test_a_dead_member_costs_a_silence_window_and_then_nothing() -> None:
    state = join()
    predict(state, 1, b"first", now=0.0)
    predict(state, 0, b"first", now=0.0)
    for n in range(4):
        predict(state, 0, b"waits-%d" % n, now=1.0, appended=200)
    assert len(at_end(state, 2.0)) == 4
    for moment in (3.0, 4.0, 4.5):
        at_end(state, moment)
    assert state.progress.silent.tolist() == [False, True]
    predict(state, 0, b"quick", now=4.6, appended=300)
    decided = state.advance(4.6)
    assert (decided.status.tolist(), decided.cause.tolist()) == ([Status.PARTIAL], [Cause.SILENT])


def test_who_was_not_looked_for_just_now_is_waited_for_though_silent() -> None:
    state = join()
    predict(state, 1, b"first", now=0.0)
    predict(state, 0, b"first", *(b"waits-%d" % n for n in range(4)), now=0.5)
    for moment in (1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0):
        at_end(state, moment)
    assert state.progress.silent.tolist() == [False, True]
    predict(state, 0, b"quick", now=6.0, appended=300, offset=10)
    assert not len(state.advance(6.0))
    assert not len(at_end(state, 6.1)), "it may have spoken while nobody looked"
    assert at_end(state, 7.0).cause.tolist() == [Cause.DEADLINE]


def test_below_the_quorum_a_silent_member_is_waited_for() -> None:
    state = join(quorum=2)
    state.progress.silent[1] = True
    predict(state, 0, b"r", now=0.0)
    assert not len(state.advance(0.0))
    decided = at_end(state, 1.0)
    assert decided.status.tolist() == [Status.EXPIRED]


def test_a_requests_record_before_between_and_after() -> None:
    state = join()
    ask(state, b"before", members=0b01)
    assert predict(state, 0, b"before")[1].status.tolist() == [Status.COMPLETE]
    predict(state, 0, b"between", offset=1)
    assert ask(state, b"between", members=0b01, offset=1).status.tolist() == [Status.COMPLETE]
    ask(state, b"between", offset=2)
    assert state.ledger.late_requests == 1
    assert state.ledger.requests == 2


def test_a_request_of_its_own_deadline() -> None:
    state = join()
    predict(state, 1)
    predict(state, 0, b"r", now=0.0)
    ask(state, b"r", wait=100)
    state.progress.read(2, 100, 1)
    assert len(at_end(state, 0.1)) == 1


def test_an_unanswered_request_expires() -> None:
    state = join()
    predict(state, 0)
    predict(state, 1)
    ask(state, b"r")
    decided = at_end(state, 1.0)
    assert decided.status.tolist() == [Status.EXPIRED]


def test_over_capacity_the_oldest_are_decided() -> None:
    state = join()
    predict(state, 0, b"a", b"b", b"c")
    decided = state.give_up_oldest(2)
    assert state.slots.ids[state.slots.row(decided.slots)].tolist() == [b"a", b"b"]
    assert decided.cause.tolist() == [Cause.CAPACITY] * 2
    assert state.open_requests == 1


@pytest.mark.parametrize("offset", [0, 7])
def test_an_offset_is_held_until_its_request_is_released(offset: int) -> None:
    state = join()
    predict(state, 0, b"r", offset=offset)
    assert state.held()[:2] == [offset, None]
    _, decided = predict(state, 1, b"r", offset=3)
    assert state.held()[:2] == [offset, 3]
    state.release(decided.slots)
    assert state.held()[:2] == [None, None]


def test_a_prediction_used_for_an_early_decision_before_a_restart_is_a_replay() -> None:
    state = join()
    state.closed.add([b"r"], 100)
    state.closed_early.add([b"r"], 100)
    state.used_before[0] = {(4, 0)}
    assert predict(state, 0, b"r", offset=4)[0] == [Verdict.REPLAYED]
    assert predict(state, 1, b"r", offset=4)[0] == [Verdict.UNNEEDED]
    assert (state.ledger.replayed, state.ledger.unneeded, state.ledger.predictions) == (1, 1, 1)


def test_ids_of_another_partition_are_forwarded_and_open_nothing() -> None:
    state = join(partitions=2)
    ids = [b"id-%d" % n for n in range(40)]
    verdicts, _ = predict(state, 0, *ids)
    assert set(verdicts) == {Verdict.USED, Verdict.FORWARD}
    assert state.open_requests == verdicts.count(Verdict.USED)
    assert state.ledger.prediction_difference() == 0


def test_without_a_required_member_there_is_no_answer() -> None:
    state = join(required=0b10)
    predict(state, 0, b"r", now=0.0)
    decided = at_end(state, 1.0)
    assert (decided.status.tolist(), decided.cause.tolist()) == ([Status.EXPIRED], [Cause.DEADLINE])
    predict(state, 1, b"s", now=2.0)
    assert at_end(state, 3.0).status.tolist() == [Status.PARTIAL]


def test_a_required_member_that_a_request_does_not_expect_is_not_asked_for() -> None:
    state = join(required=0b10)
    ask(state, b"r", members=0b01)
    _, decided = predict(state, 0, b"r")
    assert decided.status.tolist() == [Status.COMPLETE]


def test_a_silent_required_member_is_waited_for() -> None:
    state = join(required=0b10)
    state.progress.silent[1] = True
    predict(state, 0, b"r", now=0.0)
    assert not len(state.advance(0.0)), "below what makes an answer the whole deadline is waited"
    assert at_end(state, 1.0).status.tolist() == [Status.EXPIRED]


def test_what_comes_for_a_request_decided_early_is_unneeded_even_long_after() -> None:
    state = join()
    predict(state, 0, b"r")
    decided = state.end_early(state.answerable(np.array([0, 0])))
    assert (decided.status.tolist(), decided.cause.tolist()) == ([Status.PARTIAL], [Cause.EARLY])
    assert predict(state, 1, b"r")[0] == [Verdict.UNNEEDED]
    state.release(decided.slots)
    state._cut()
    assert predict(state, 1, b"r", offset=1)[0] == [Verdict.UNNEEDED]
    assert state.ledger.unneeded == 2
    assert ask(state, b"r").slots.tolist() == []
    assert state.ledger.late_requests == 1
    assert state.ledger.prediction_difference() == 0


def test_what_has_ended_or_lacks_its_quorum_is_not_answerable() -> None:
    state = join(quorum=2, members=3, topic_of=(0, 1, 2), topics=4)
    predict(state, 0, b"r", b"s", b"t")
    assert not len(state.answerable(np.arange(3)))
    predict(state, 1, b"r", b"s")
    predict(state, 2, b"s")
    assert state.answerable(np.arange(3)).tolist() == [0]


def test_a_flood_of_ended_requests_opens_nothing() -> None:
    state = join()
    ids = [b"%d" % number for number in range(5000)]
    _, decided = predict(state, 0, *ids)
    _, decided = predict(state, 1, *ids)
    state.release(decided.slots)
    state._cut()
    twice = [i for i in ids for _ in range(2)]
    verdicts, _ = predict(state, 0, *twice, b"new", offset=5000)
    assert verdicts == [Verdict.LATE] * 10_000 + [Verdict.USED]
    assert (state.open_requests, state.ledger.prediction_difference()) == (1, 0)


@pytest.mark.parametrize("asked", [True, False])
def test_ended_requests_are_forgotten_though_nobody_writes_to_the_requests_topic(asked: bool) -> None:
    state = join()
    state.progress.read(2, -1, 0)
    known, offset = [], 0
    for second in range(100):
        ids = [b"r%d-%d" % (second, i) for i in range(50)]
        decided: list[Decided] = []
        for member in range(2):
            decided.append(
                predict(state, member, *ids, now=second, appended=1000 * (1 + second), offset=offset)[1]
            )
        offset += len(ids)
        if asked:
            state.progress.at_end(2, float(second), 0)
        state.progress.note_idle(float(second), HORIZON / 1000)
        for ended in decided:
            state.release(ended.slots)
        known.append(len(state.closed))
    # Those of two horizons, and what is cut in one go.
    assert (known[-1] < 50 * 30) == asked
    assert not asked or known[-1] > 50 * 15
