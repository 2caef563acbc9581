"""Labels meet fused records: early, late, twice, corrected, orphaned, unusable."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.core.labels.answers import credited, keep_answer
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import (
    Charge,
    give_up_excess,
    give_up_orphans,
    take_answer,
    take_labels,
)
from stream_ensemble.core.labels.records import Answer, Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.errors import RecordError
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore

RULES = Rules(Classes(("cat", "dog")), label_horizon_ms=1000, orphan_horizon_ms=5000)
D1, BLOCK = credit_block.encode("ml_poly", 2, 0, ("a", "b"), np.array([1.0, 0.5]))
OUTPUTS = {"a": [0.75, 0.25], "b": [0.5, 0.5]}


def answer(appended: int = 100, *, carries: bool = True, **fields: Any) -> Answer:
    credit: dict[str, Any] = {"everywhere": D1}
    if carries:
        credit["blocks"] = {D1: BLOCK}
    record = {"status": "complete", "components": OUTPUTS, "credit": credit, **fields}
    return Answer(1, appended, msgspec.json.encode(record))


def label(
    value: str | int = "cat", *, at: int = 200, revision: int = 0, offset: int = 0, weight: float = 1.0
) -> Feedback:
    return Feedback("r", value, revision, weight, at, ("feedback", 0, offset, 0), lambda: b"original bytes")


class Learner:
    """Drives the functions under test as a partition does, with a flush where a test wants one."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules = rules
        self.store = MemoryLabelStore()
        self.changes = Changes(self.store)
        self.charges: list[Charge] = []
        self.fused_until = 0

    def fused(self, record: Answer, request_id: str = "r") -> None:
        self.fused_until = max(self.fused_until, record.appended)
        self.charges += take_answer(self.changes, self.rules, request_id, record)

    def label(self, *labels: Feedback) -> None:
        self.charges += take_labels(self.changes, self.rules, labels, self.fused_until)

    def flush(self) -> None:
        self.store.write(self.changes, Position("me", 0, 0, 0))
        self.changes = Changes(self.store)

    @property
    def signs(self) -> list[tuple[int, int, bool]]:
        return [(charge.sign, charge.label, charge.first) for charge in self.charges]

    @property
    def dead(self) -> list[str]:
        return [dead.reason for dead in self.changes.dead]


def test_a_label_after_its_fused_record_is_charged_with_what_was_predicted() -> None:
    learner = Learner()
    learner.fused(answer(segment="north"))
    learner.label(label("dog", weight=2.0))
    (charge,) = learner.charges
    assert charge.credit.everywhere == D1
    assert charge.segment == "north"
    assert charge.components == OUTPUTS
    assert (charge.label, charge.weight, charge.sign, charge.first) == (1, 2.0, 1, True)
    verdict = learner.changes.verdict("r")
    assert verdict is not None
    assert verdict.learned
    assert (verdict.label, verdict.generation, verdict.record) == ("dog", 2, b"")
    assert learner.changes.counts == {"learned": 1}


def test_a_class_can_be_named_by_its_index() -> None:
    learner = Learner()
    learner.fused(answer())
    learner.label(label(1))
    verdict = learner.changes.verdict("r")
    assert verdict is not None
    assert verdict.label == "dog"


@pytest.mark.parametrize("flushed", [False, True])
def test_an_early_label_waits_and_is_learned_when_its_fused_record_comes(flushed: bool) -> None:
    learner = Learner()
    learner.label(label("dog", at=50))
    parked = learner.changes.verdict("r")
    assert parked is not None
    assert not parked.learned
    assert parked.record == b"original bytes"
    if flushed:
        learner.flush()
    learner.fused(answer())
    assert learner.signs == [(1, 1, True)]
    assert learner.changes.parked_count() == 0


def test_the_original_is_made_only_of_a_label_that_waits_or_cannot_be_used() -> None:
    made: list[str] = []

    def one(request_id: str, value: str) -> Feedback:
        return label(value)._replace(request_id=request_id, original=lambda: made.append(request_id) or b"")

    learner = Learner()
    learner.fused(answer())
    learner.label(one("r", "cat"), one("r", "cat"), one("r", "dog"), one("early", "cat"), one("dead", "cow"))
    assert made == ["early", "dead"]


@pytest.mark.parametrize("flushed", [False, True])
def test_of_two_early_labels_the_larger_revision_is_learned(flushed: bool) -> None:
    for first, second in (
        (label("cat", revision=1), label("dog", at=300)),
        (label("dog"), label("cat", at=300)),
    ):
        learner = Learner()
        learner.label(first)
        if flushed:
            learner.flush()
        learner.label(second)
        assert learner.changes.parked_count() == 1
        learner.fused(answer())
        assert learner.signs == [(1, 0, True)]
        assert learner.changes.parked_count() == 0


def test_the_same_value_again_changes_nothing() -> None:
    learner = Learner()
    learner.fused(answer())
    learner.label(
        label("cat", offset=1), label("cat", at=300, offset=2), label(0, revision=5, at=250, offset=3)
    )
    assert learner.signs == [(1, 0, True)]
    assert learner.changes.counts == {"learned": 1, "duplicate": 2}


def test_a_repeated_value_still_moves_the_place_against_which_later_ones_are_held() -> None:
    learner = Learner()
    learner.fused(answer())
    learner.label(
        label("cat", offset=1), label("cat", revision=2, offset=2), label("dog", revision=1, offset=3)
    )
    assert learner.signs == [(1, 0, True)]


@pytest.mark.parametrize("flushed", [False, True])
def test_a_correction_takes_the_old_label_back_and_n_stays(flushed: bool) -> None:
    learner = Learner()
    learner.fused(answer())
    learner.label(label("cat", weight=3.0))
    if flushed:
        learner.flush()
    learner.label(label("dog", at=300, offset=1))
    assert learner.signs == [(1, 0, True), (-1, 0, False), (1, 1, False)]
    assert [charge.weight for charge in learner.charges] == [3.0, 3.0, 1.0]


def test_another_weight_for_the_same_class_is_a_correction() -> None:
    learner = Learner()
    learner.fused(answer())
    learner.label(label("cat"), label("cat", at=300, weight=2.0))
    assert [(charge.sign, charge.weight) for charge in learner.charges] == [(1, 1.0), (-1, 1.0), (1, 2.0)]


def test_labels_are_ordered_by_revision_then_append_time_then_origin() -> None:
    places = [
        label("cat", revision=0, at=900, offset=9),
        label("dog", revision=1, at=100, offset=1),
        label("cat", revision=1, at=200, offset=0),
        label("dog", revision=1, at=200, offset=1),
    ]
    learner = Learner()
    learner.fused(answer())
    learner.label(*reversed(places))
    assert learner.signs == [(1, 1, True)]
    assert learner.changes.counts["superseded"] == 2
    assert learner.changes.counts["duplicate"] == 1


def test_an_origin_seen_again_after_a_correction_is_a_no_op() -> None:
    first, second = label("cat", offset=1), label("dog", offset=2, at=201)
    learner = Learner()
    learner.fused(answer())
    learner.label(first, second)
    learner.charges.clear()
    learner.label(first, second, first)
    assert learner.charges == []


def test_the_label_horizon_is_counted_from_the_fused_records_append_time() -> None:
    for at, dead in ((1100, []), (1101, ["label-horizon"])):
        learner = Learner()
        learner.fused(answer(100))
        learner.label(label(at=at))
        assert learner.dead == dead
        assert len(learner.charges) == (not dead)


def test_a_correction_outside_the_horizon_leaves_what_was_learned() -> None:
    learner = Learner()
    learner.fused(answer(100))
    learner.label(label("cat", at=1100), label("dog", at=1101, offset=1))
    assert learner.signs == [(1, 0, True)]
    assert learner.dead == ["label-horizon"]
    verdict = learner.changes.verdict("r")
    assert verdict is not None
    assert verdict.label == "cat"


def test_a_correction_after_the_fused_record_is_forgotten_goes_to_dead_letter() -> None:
    learner = Learner()
    learner.fused(answer(100))
    learner.label(label("cat", at=900))
    learner.flush()
    learner.store.expire(200, 10)
    learner.label(label("dog", at=5000, offset=1))
    assert learner.dead == ["label-horizon"]


def test_an_orphan_is_given_up_by_the_fused_topics_append_time_alone() -> None:
    learner = Learner()
    learner.label(label("cat", at=1000))
    learner.fused(answer(6000), "another")
    assert give_up_orphans(learner.changes, RULES, learner.fused_until, 10) == 0
    learner.flush()
    learner.fused(answer(6001), "one more")
    assert give_up_orphans(learner.changes, RULES, learner.fused_until, 10) == 1
    (dead,) = learner.changes.dead
    assert (dead.reason, dead.request_id, dead.record) == ("orphan", "r", b"original bytes")
    assert (dead.origin, dead.appended) == (("feedback", 0, 0, 0), 1000)
    learner.flush()
    assert learner.store.parked_count() == 0
    assert learner.store.verdict("r") is None


def test_a_label_that_is_an_orphan_on_arrival_is_not_parked() -> None:
    learner = Learner()
    learner.fused(answer(9000), "another")
    learner.label(label(at=3999))
    assert learner.dead == ["orphan"]
    assert learner.changes.parked_count() == 0


def test_many_orphans_are_given_up_a_bounded_number_at_a_time() -> None:
    learner = Learner()
    learner.label(*(label(at=at)._replace(request_id=f"r{at}") for at in range(7)))
    learner.flush()
    given_up = [give_up_orphans(learner.changes, RULES, 10_000, 3) for _ in range(4)]
    assert given_up == [3, 3, 1, 0]
    assert len(learner.changes.dead) == 7


def test_more_than_may_wait_are_given_up_oldest_first() -> None:
    learner = Learner()
    learner.label(*(label(at=at)._replace(request_id=f"r{at}") for at in range(7)))
    learner.flush()
    assert [give_up_excess(learner.changes, 4, 2) for _ in range(3)] == [2, 1, 0]
    assert [dead.request_id for dead in learner.changes.dead] == ["r0", "r1", "r2"]
    assert {dead.reason for dead in learner.changes.dead} == {"orphan"}
    learner.flush()
    assert learner.store.parked_count() == 4
    assert give_up_excess(learner.changes, 4, 2) == 0


@pytest.mark.parametrize("without", [{"status": "expired"}, {"status": "fallback"}])
def test_an_answer_made_without_weights_teaches_nothing_and_is_counted(without: dict[str, str]) -> None:
    learner = Learner()
    learner.fused(answer(components={}, credit=None, **without))
    learner.label(label("cat"), label("dog", at=300))
    assert learner.charges == []
    assert learner.dead == []
    assert learner.changes.counts == {"taught-nothing": 2}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (answer(carries=False), "credit-not-found"),
        (Answer(1, 100, b"{"), "fused-unreadable"),
        (Answer(1, 100, b""), "fused-unreadable"),
        (Answer(1, 100, b"\x81"), "fused-unreadable"),
        (Answer(1, 100, b'{"components": {}, "segment": "\xff"}'), "fused-unreadable"),
        (Answer(1, 100, b'{"components": {}, "more": ' + b"[" * 100_000), "fused-unreadable"),
        (answer(components={"a": [1.0]}), "fused-unreadable"),
        (answer(components={"stranger": [0.5, 0.5]}), "credit-not-found"),
    ],
)
def test_a_label_whose_answer_cannot_be_charged_goes_to_dead_letter(record: Answer, reason: str) -> None:
    learner = Learner()
    learner.fused(record)
    learner.label(label())
    assert learner.dead == [reason]
    assert learner.charges == []
    assert learner.changes.verdict("r") is None


def test_a_parked_label_whose_answer_cannot_be_charged_is_parked_no_more() -> None:
    learner = Learner()
    learner.label(label())
    learner.flush()
    learner.fused(answer(carries=False))
    assert learner.dead == ["credit-not-found"]
    learner.flush()
    assert learner.store.parked_count() == 0


@pytest.mark.parametrize(
    ("value", "reason"), [(2, "label-out-of-range"), (-1, "label-out-of-range"), ("cow", "unknown-class")]
)
def test_a_label_that_names_no_class_goes_to_dead_letter_at_once(value: str | int, reason: str) -> None:
    learner = Learner()
    learner.label(label(value))
    assert learner.dead == [reason]
    assert learner.changes.parked_count() == 0


def test_a_block_carried_by_another_record_is_found_also_after_a_flush() -> None:
    learner = Learner()
    learner.fused(answer(), "carrier")
    learner.flush()
    learner.fused(answer(carries=False))
    learner.label(label())
    assert learner.signs == [(1, 0, True)]


def test_both_blocks_must_be_there() -> None:
    learner = Learner()
    learner.fused(answer(credit={"everywhere": D1, "segment": "d2", "blocks": {D1: BLOCK}}))
    learner.label(label())
    assert learner.dead == ["credit-not-found"]


def test_a_block_that_is_not_what_its_digest_names_is_not_used() -> None:
    changed = msgspec.structs.replace(BLOCK, n=7)
    learner = Learner()
    learner.fused(answer(credit={"everywhere": D1, "blocks": {D1: changed}}))
    learner.label(label())
    assert learner.dead == ["credit-not-found"]
    assert learner.changes.counts["credit-damaged"] == 1


def test_refilling_keeps_answers_and_blocks_and_teaches_nothing() -> None:
    learner = Learner()
    learner.label(label())
    keep_answer(learner.changes, RULES.domain.bounds, "r", answer())
    assert learner.charges == []
    assert learner.changes.block(D1) == BLOCK
    kept = learner.changes.answer("r")
    assert kept is not None
    assert (kept.offset, kept.appended, credited(kept).components) == (1, 100, OUTPUTS)
    learner.label(label("dog", revision=1))
    assert learner.signs == [(1, 1, True)]
    assert learner.changes.parked_count() == 0


def test_a_record_that_says_it_carries_blocks_and_cannot_be_read_is_refused() -> None:
    with pytest.raises(RecordError, match="fused-unreadable"):
        Learner().fused(Answer(1, 100, b'{"credit": {"blocks": 7}}'))


@pytest.mark.parametrize("numbers", [[-0.25, 1.25], [1.75, 0.25]])
def test_an_answer_like_one_before_is_refused_all_the_same_where_its_numbers_are_no_probabilities(
    numbers: list[float],
) -> None:
    learner = Learner()
    learner.fused(answer())
    learner.fused(answer(carries=False, components={"a": numbers, "b": [0.5, 0.5]}), "foreign")
    learner.label(label(), label(offset=1)._replace(request_id="foreign"))
    assert learner.dead == ["fused-unreadable"]
    assert learner.signs == [(1, 0, True)]
