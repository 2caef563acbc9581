"""Labels: applied once, waiting or kept aside; a second learning and a loss are found."""

from __future__ import annotations

import pytest

from stream_ensemble.cli.audit.labels import count_offence, judge
from stream_ensemble.cli.audit.moved import judge as judge_moved
from stream_ensemble.cli.audit.rows import MOVED, hashes, place, table
from stream_ensemble.cli.audit.tally import Offence, Tally
from tests.unit.audit.ledgers import Ledger


def judged(ledger: Ledger, n: int | None) -> Tally:
    tally = judge(ledger.bucket(), 2)
    count_offence(tally, 2, n)
    return tally


def learned(it: Ledger, *request_ids: str) -> None:
    for request_id in request_ids:
        it.fuse(request_id, {})
        it.apply(request_id, it.label(request_id))


def test_labels_learned_once_balance_with_n() -> None:
    it = Ledger()
    learned(it, "a", "b")
    it.label("waits", appended=7)
    it.apply("waits", it.label("waits", appended=9), learned=False, appended=9)
    it.label("dead", dead=True)
    it.label("unread", decided=False)
    tally = judged(it, 2)
    assert tally.balances
    assert {name: count for name, count in tally.counts.items() if count} == {
        "labels": 6, "labels-learned": 2, "taught": 2, "labels-applied": 2, "labels-waiting": 1,
        "labels-superseded": 1, "labels-dead-lettered": 1, "labels-held": 1,
    }  # fmt: skip


def test_a_correction_is_no_second_learning() -> None:
    it = Ledger()
    learned(it, "a")
    it.apply("a", it.label("a", revision=1), revision=1)
    tally = judged(it, 1)
    assert tally.balances
    assert (tally.counts["labels-applied"], tally.counts["labels-superseded"]) == (1, 1)


def test_a_label_learned_twice_is_found() -> None:
    it = Ledger()
    it.fuse("a", {})
    origin = it.label("a")
    it.apply("a", origin, learned=False)
    it.apply("a", origin)
    assert judged(it, 1).balances, "waiting, then learned, is once"
    again = it.apply("a", origin)
    tally = judged(it, 1)
    assert tally.offences == {Offence.LEARNED_TWICE: 1}
    assert tally.offenders[0].place == again


@pytest.mark.parametrize(("n", "well"), [(3, False), (2, True), (1, False), (None, False)])
def test_n_is_the_number_of_distinct_labels_learned(n: int | None, well: bool) -> None:
    it = Ledger()
    learned(it, "a", "b")
    it.fuse("taught nothing", {}, teaches=False)
    it.apply("taught nothing", it.label("taught nothing"))
    tally = judged(it, n)
    assert tally.offences == ({} if well else {Offence.COUNT: 1})
    assert well or tally.offenders[0].detail == f"n is {n or 0}, labels applied that count: 2"


@pytest.mark.parametrize(("n", "well"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_label_whose_answer_is_gone_may_count_or_not(n: int, well: bool) -> None:
    it = Ledger()
    learned(it, "a")
    it.apply("old", it.label("old"))
    assert judged(it, n).balances is well


def test_after_a_reset_only_labels_of_its_generation_must_count() -> None:
    it = Ledger()
    learned(it, "a", "b")
    it.fuse("c", {})
    it.apply("c", it.label("c"), generation=1)
    it.fuse("other settings", {}, judged=False)
    it.apply("other settings", it.label("other settings"), generation=1)
    for n, well in ((0, False), (1, True), (4, True), (5, False)):
        tally = judge(it.bucket(), 2, generation=1)
        count_offence(tally, 2, n)
        assert tally.balances is well


def test_a_label_that_led_to_nothing_is_found() -> None:
    it = Ledger()
    learned(it, "a")
    lost = it.label("b")
    tally = judged(it, 1)
    assert tally.offences == {Offence.LABEL_LOST: 1}
    assert tally.offenders[0].place == lost


def test_one_that_should_have_won_is_lost_too() -> None:
    it = Ledger()
    learned(it, "a")
    it.label("a", revision=1)
    assert judged(it, 1).offences == {Offence.LABEL_LOST: 1}


def test_one_given_up_must_be_in_the_dead_letter_topic() -> None:
    it = Ledger()
    origin = it.label("a", dead=True)
    it.apply("a", origin, learned=False)
    it.apply("a", 0, learned=False, gone=True)
    assert judged(it, 0).balances
    other = Ledger()
    other.apply("a", other.label("a"), learned=False)
    other.apply("a", 0, learned=False, gone=True)
    assert judged(other, 0).offences == {Offence.LABEL_LOST: 1}


def test_a_record_on_the_wrong_partition_must_have_a_copy() -> None:
    ids = hashes([b"a", b"b", b"a"])
    places = [place(0, 5), place(0, 6), place(0, 5)]
    rows = table(MOVED, ids, place=places, partition=[3, 3, 3], copy=[False, False, True])
    tally = judge_moved(rows)
    assert tally.offences == {Offence.NOT_FORWARDED: 1}
    assert (tally.offenders[0].partition, tally.offenders[0].place) == (3, place(0, 6))
    rows["partition"][2] = 1
    assert judge_moved(rows).offences == {Offence.NOT_FORWARDED: 2}
