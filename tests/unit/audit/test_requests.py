"""Each way in which a ledger of requests and predictions can be wrong is found, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from stream_ensemble.cli.audit.requests import judge
from stream_ensemble.cli.audit.rows import NOWHERE, place
from stream_ensemble.cli.audit.tally import Offence, Tally
from stream_ensemble.cli.audit.terms import UNDER_WAY_MS, SilenceFinder, Terms
from stream_ensemble.core.join.records import Answer, Cause, Status
from tests.unit.audit.ledgers import DEADLINE_MS, SILENT_MS, TERMS, Ledger


def judged(ledger: Ledger, terms: Terms = TERMS) -> Tally:
    """The tally, whose sums must always hold."""
    tally = judge(ledger.bucket(), terms)
    counts = tally.counts
    ends = sum(counts[status.name.lower()] for status in Status)
    assert counts["requests"] == ends + counts["open"] + tally.offences[Offence.MISSING]
    fates = (
        "used",
        "late",
        "unneeded",
        "duplicate",
        "dead-lettered",
        "held",
        "earlier",
        "missing",
        "unaccounted",
    )
    assert counts["predictions"] == sum(counts[fate] for fate in fates)
    return tally


def accused(tally: Tally) -> dict[Offence, int]:
    assert sum(tally.offences.values()) == len(tally.offenders)
    return dict(tally.offences)


def test_an_empty_partition_balances() -> None:
    assert judged(Ledger()).balances


def test_every_fate_of_a_request_and_a_prediction_is_counted() -> None:
    it = Ledger()
    it.whole("whole")
    first = it.predict("partial", 0)
    it.fuse("partial", {0: first}, status=Status.PARTIAL, cause=Cause.DEADLINE, missing=[1, 2])
    it.late("partial", it.predict("partial", 1, appended=DEADLINE_MS + 1))
    it.ask("asked")
    it.fuse("asked", {}, status=Status.EXPIRED, cause=Cause.DEADLINE, missing=[0, 1, 2])
    some = {0: it.predict("twice", 0), 1: it.predict("twice", 1)}
    it.predict("twice", 0, output=0.9)
    it.predict("twice", 2, answer=Answer.ABSTAIN)
    it.fuse("twice", some, status=Status.FALLBACK, cause=Cause.QUORUM, asleep=[2])
    early = {0: it.predict("early", 0), 1: it.predict("early", 1)}
    it.fuse("early", early, status=Status.PARTIAL, cause=Cause.EARLY, unneeded=[2])
    it.predict("early", 2, appended=3)
    it.predict("dead", 0, dead=True)
    it.predict("open", 1, decided=False)
    tally = judged(it)
    assert tally.balances
    assert {name: count for name, count in tally.counts.items() if count} == {
        "requests": 6, "complete": 1, "partial": 2, "expired": 1, "fallback": 1, "open": 1,
        "predictions": 14, "used": 9, "late": 1, "duplicate": 1, "unneeded": 1, "dead-lettered": 1, "held": 1,
        "sources": 8, "absences-judged": 2,
    }  # fmt: skip


@pytest.mark.parametrize("by", ["prediction", "requests record"])
def test_a_request_without_an_end_is_missing(by: str) -> None:
    it = Ledger()
    it.whole("whole")
    at = it.predict("lost", 1) if by == "prediction" else it.ask("lost")
    tally = judged(it)
    assert accused(tally) == {Offence.MISSING: 1}
    assert (tally.offenders[0].partition, tally.offenders[0].place) == (2, at)


def test_one_that_is_not_decided_is_open_and_overdue_only_past_its_deadline() -> None:
    it = Ledger()
    it.predict("open", 1, appended=1000, decided=False)
    assert judged(it).balances
    assert judged(it, replace(TERMS, newest=1000 + DEADLINE_MS)).counts["overdue"] == 0
    assert judged(it, replace(TERMS, newest=1001 + DEADLINE_MS)).counts["overdue"] == 1


def test_a_second_fused_record_is_found_and_its_sources_count_once() -> None:
    it = Ledger()
    places = it.whole("twice")
    again = it.fuse("twice", places, appended=70)
    tally = judged(it)
    assert accused(tally) == {Offence.TWICE: 1}
    assert tally.offenders[0].place == again
    assert tally.counts["used"] == 3
    assert tally.counts["complete"] == 1


def test_a_fused_record_of_nothing_is_found_where_all_was_read() -> None:
    it = Ledger()
    it.fuse("invented", {}, status=Status.EXPIRED, cause=Cause.DEADLINE)
    assert accused(judged(it)) == {Offence.OF_NOTHING: 1}
    assert judged(it, replace(TERMS, whole=False)).balances


def test_sources_must_stand_where_they_are_said_to() -> None:
    it = Ledger()
    places = {member: it.predict("r", member) for member in range(3)}
    other = it.predict("other", 0)
    it.fuse("other", {0: other}, status=Status.PARTIAL, cause=Cause.QUORUM)
    wrong = {0: other, 1: place(1, 77), 2: NOWHERE}
    it.fuse("r", wrong)
    tally = judged(it)
    assert tally.offences[Offence.WRONG_SOURCE] == 3
    assert tally.offences[Offence.UNACCOUNTED] == 3, "the true ones were used by nobody"
    assert tally.counts["used"] == 2 - 1
    assert places[0] != other


def test_a_source_of_another_member_is_wrong() -> None:
    it = Ledger()
    places = {member: it.predict("r", member) for member in range(3)}
    it.fuse("r", {0: places[1], 1: places[0], 2: places[2]})
    assert accused(judged(it)) == {Offence.WRONG_SOURCE: 2}


def test_a_source_before_what_was_read_is_not_looked_at() -> None:
    it = Ledger()
    it.offsets = {0: 9, 1: 9, 2: 9}
    places = {member: it.predict("r", member) for member in range(3)}
    places[1] = place(1, 3)
    it.fuse("r", places)
    terms = replace(TERMS, firsts=(10, 10, 10, 0, 0), whole=False)
    tally = judge(it.bucket(), terms)
    assert tally.offences == {Offence.UNACCOUNTED: 1}
    assert tally.counts["sources-gone"] == 1


def test_another_output_than_that_of_the_source_is_found() -> None:
    it = Ledger()
    places = {member: it.predict("r", member, output=0.5) for member in range(3)}
    it.fuse("r", places, output=0.25)
    assert accused(judged(it)) == {Offence.OTHER_OUTPUT: 3}


def test_a_prediction_neither_used_nor_kept_aside_is_found() -> None:
    it = Ledger()
    first = it.predict("r", 0)
    it.fuse("r", {0: first}, status=Status.PARTIAL, cause=Cause.DEADLINE, missing=[1, 2])
    lost = it.predict("r", 1, appended=DEADLINE_MS + 1)
    tally = judged(it)
    assert accused(tally) == {Offence.UNACCOUNTED: 1}
    assert tally.offenders[0].place == lost
    it.late("r", lost)
    assert judged(it).balances


def test_one_that_is_not_decided_yet_is_held() -> None:
    it = Ledger()
    it.whole("r")
    it.predict("late", 0, decided=False)
    first = it.predict("ended", 0)
    it.fuse("ended", {0: first}, status=Status.PARTIAL, cause=Cause.DEADLINE, missing=[1])
    it.predict("ended", 1, appended=DEADLINE_MS, decided=False)
    tally = judged(it)
    assert tally.balances
    assert tally.counts["held"] == 2


def test_used_and_late_is_found() -> None:
    it = Ledger()
    it.late("r", it.whole("r")[0])
    assert accused(judged(it)) == {Offence.USED_AND_LATE: 1}


def test_late_ones_of_a_request_that_never_ended_are_found_where_all_was_read() -> None:
    it = Ledger()
    it.late("r", it.predict("r", 0))
    assert accused(judged(it)) == {Offence.LATE_UNENDED: 1}
    assert judged(it, replace(TERMS, whole=False)).balances
    far = Ledger()
    far.late("r", far.predict("r", 0, beyond=True))
    assert judged(far).balances, "beyond the lateness horizon nothing is opened"


@pytest.mark.parametrize(
    ("appended", "tolerance_ms", "justified"),
    [
        (DEADLINE_MS - 1, 0, False),
        (DEADLINE_MS, 0, True),
        (DEADLINE_MS - 5, 5, True),
        (DEADLINE_MS - 6, 5, False),
    ],
)
def test_who_was_there_in_time_must_not_be_left_out(
    appended: int, tolerance_ms: int, justified: bool
) -> None:
    it = Ledger()
    first = it.predict("r", 0)
    it.fuse("r", {0: first}, status=Status.PARTIAL, cause=Cause.DEADLINE, missing=[1, 2], appended=150)
    left_out = it.predict("r", 1, appended=appended)
    it.late("r", left_out)
    tally = judged(it, replace(TERMS, tolerance_ms=tolerance_ms))
    assert accused(tally) == ({} if justified else {Offence.UNJUSTIFIED: 1})
    assert justified or tally.offenders[0].place == left_out


def test_the_deadline_is_that_of_the_first_requests_record_and_runs_from_the_first_record() -> None:
    it = Ledger()
    it.ask("r", appended=1000, deadline_ms=500)
    it.ask("r", appended=1001, deadline_ms=9000)
    it.fuse("r", {}, status=Status.EXPIRED, cause=Cause.DEADLINE, missing=[0, 1, 2], appended=1600)
    it.late("r", it.predict("r", 0, appended=1500))
    assert judged(it).balances
    it.late("r", it.predict("r", 1, appended=1499))
    assert accused(judged(it)) == {Offence.UNJUSTIFIED: 1}


@pytest.mark.parametrize(
    ("cause", "own_settings", "justified"),
    [
        (Cause.EARLY, True, True),
        (Cause.CAPACITY, True, True),
        (Cause.UNREADABLE, True, True),
        (Cause.DEADLINE, False, True),
        (Cause.DEADLINE, True, False),
        (Cause.QUORUM, True, False),
    ],
)
def test_causes_that_the_topics_do_not_show_and_other_settings_are_not_judged(
    cause: Cause, own_settings: bool, justified: bool
) -> None:
    it = Ledger()
    first = it.predict("r", 0)
    it.fuse("r", {0: first}, status=Status.PARTIAL, cause=cause, missing=[1], judged=own_settings)
    it.late("r", it.predict("r", 1, appended=1))
    tally = judged(it)
    assert accused(tally) == ({} if justified else {Offence.UNJUSTIFIED: 1})
    assert tally.counts["absences-not-judged"] == justified


@pytest.mark.parametrize(("last", "justified"), [(5000 - SILENT_MS, True), (5001 - SILENT_MS, False)])
def test_a_silent_member_must_have_been_silent(last: int, justified: bool) -> None:
    it = Ledger()
    first = it.predict("r", 0, appended=4990)
    it.fuse("r", {0: first}, status=Status.PARTIAL, cause=Cause.SILENT, missing=[1], appended=5000)
    it.late("r", it.predict("r", 1, appended=5001))
    finder = SilenceFinder(SILENT_MS // 2)
    finder.see(np.array([100, last]))
    finder.see(np.array([5001, 5001, 5002]))
    terms = replace(TERMS, silences={1: finder.silences()})
    assert accused(judged(it, terms)) == ({} if justified else {Offence.UNJUSTIFIED: 1})


@pytest.mark.parametrize(
    ("back", "justified"), [(4990, True), (5001 - UNDER_WAY_MS, True), (4999 - UNDER_WAY_MS, False)]
)
def test_what_a_silent_member_says_while_the_answer_is_under_way_is_not_known_yet(
    back: int, justified: bool
) -> None:
    it = Ledger()
    first = it.predict("r", 0, appended=4990)
    it.fuse("r", {0: first}, status=Status.PARTIAL, cause=Cause.SILENT, missing=[1], appended=5000)
    it.late("r", it.predict("r", 1, appended=back))
    finder = SilenceFinder(SILENT_MS // 2)
    finder.see(np.array([100, back, back + 1, 9000]))
    terms = replace(TERMS, silences={1: finder.silences()})
    assert accused(judged(it, terms)) == ({} if justified else {Offence.UNJUSTIFIED: 1})


def test_complete_without_a_member_is_found() -> None:
    it = Ledger()
    it.fuse("r", {0: it.predict("r", 0)}, missing=[1])
    assert accused(judged(it)) == {Offence.INCOMPLETE: 1}


def test_only_requests_that_began_between_the_times_count() -> None:
    it = Ledger()
    for n in range(10):
        it.whole(f"r{n}", appended=n * 1000)
    it.predict("lost", 0, appended=9500)
    window = replace(TERMS, since=2000, until=5000)
    tally = judged(it, window)
    assert tally.balances
    assert (tally.counts["requests"], tally.counts["predictions"]) == (3, 9)


def test_what_is_older_than_the_fused_topic_is_not_missed() -> None:
    it = Ledger()
    it.predict("old", 0, appended=99)
    it.whole("new", appended=200)
    tally = judged(it, replace(TERMS, fused_begins=100, whole=False))
    assert tally.balances
    assert (tally.counts["requests"], tally.counts["earlier"]) == (1, 1)
    it.predict("lost", 0, appended=100)
    assert accused(judged(it, replace(TERMS, fused_begins=100, whole=False))) == {Offence.MISSING: 1}


def test_offenders_are_counted_all_and_named_some() -> None:
    it = Ledger()
    for n in range(25):
        it.predict(f"lost {n}", 0)
    tally = judged(it)
    assert tally.offences[Offence.MISSING] == 25
    assert len(tally.offenders) == 10
    total = Tally()
    total.add(tally)
    total.add(tally)
    assert (total.offences[Offence.MISSING], len(total.offenders)) == (50, 10)
