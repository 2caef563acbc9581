"""From charges to contributions: generations, other algorithms, members that come, go and move."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned, Outcome, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.errors import StateError
from stream_ensemble.messages import Credit
from stream_ensemble.stores.contributions import Key, Order
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from stream_ensemble.stores.weights_topic import decode_weights, encode_weights

AB = ("a", "b")
OUTPUTS = {"a": [0.8, 0.2], "b": [0.5, 0.5], "c": [0.1, 0.9]}


def over(members: tuple[str, ...]) -> MLPoly:
    return MLPoly(members, half_life=10.0)


class Case:
    """Charges against blocks that a fused record carried."""

    def __init__(self) -> None:
        self.known = Changes(MemoryLabelStore())

    def block(
        self,
        *,
        members: tuple[str, ...] = AB,
        generation: int = 0,
        n: int = 0,
        algorithm: str = "ml_poly",
        values: tuple[float, ...] | None = None,
    ) -> str:
        numbers = np.array(values if values is not None else (1.0,) * len(members))
        digest, block = credit_block.encode(algorithm, generation, n, members, numbers)
        self.known.blocks[digest] = (0, block)
        return digest

    def one(self, digest: str, *, label: int = 0, sign: int = 1, segment: str | None = None) -> Charge:
        members = self.known.blocks[digest][1].members
        components = {member: OUTPUTS[member] for member in members}
        credit = Credit(everywhere=digest, segment=digest if segment else None)
        return Charge(credit, segment, components, label, 1.0, sign, first=sign > 0)

    def charge(self, learned: Learned, *charges: Charge) -> Outcome:
        return charge(learned, charges, self.known, over)


def alone(members: tuple[str, ...], label: int, clock: float = 0.0) -> Contribution:
    part = Contribution(members)
    outputs = np.array([[OUTPUTS[member] for member in members]])
    awake = np.ones((1, len(members)), np.bool_)
    labelled = Labelled(outputs, awake, np.array([label]), np.array([1.0]), clock)
    over(members).learn(part, np.ones(len(members)), labelled)
    return part


NOTHING = Learned(0, BySegment())


def test_one_label_teaches_what_the_algorithm_says() -> None:
    case = Case()
    outcome = case.charge(NOTHING, case.one(case.block()))
    part = outcome.learned.by_segment[None]
    assert outcome.changed == {None}
    assert part.n == 1
    assert {name: array.tolist() for name, array in part.sums.items()} == {
        name: array.tolist() for name, array in alone(AB, 0).sums.items()
    }


def test_nothing_charged_changes_nothing() -> None:
    case = Case()
    learned = case.charge(NOTHING, case.one(case.block())).learned
    outcome = case.charge(learned)
    assert outcome.changed == frozenset()
    assert outcome.learned.by_segment == learned.by_segment


def test_what_was_learned_before_is_not_edited() -> None:
    case = Case()
    digest = case.block()
    before = case.charge(NOTHING, case.one(digest)).learned
    written = {name: array.copy() for name, array in before.by_segment[None].sums.items()}
    case.charge(before, case.one(digest, label=1), case.one(digest))
    assert before.by_segment[None].n == 1
    for name, array in written.items():
        assert (before.by_segment[None].sums[name] == array).all()


def test_a_label_with_a_segment_counts_in_both_states() -> None:
    case = Case()
    digest = case.block()
    outcome = case.charge(NOTHING, case.one(digest, segment="north"), case.one(digest))
    assert outcome.changed == {None, "north"}
    assert {segment: part.n for segment, part in outcome.learned.by_segment.items()} == {None: 2, "north": 1}


def test_what_was_learned_has_the_same_bytes_after_it_was_read_back() -> None:
    case = Case()
    digest = case.block(n=7)
    learned = case.charge(NOTHING, case.one(digest, segment="north"), case.one(digest)).learned
    for segment, part in learned.by_segment.items():
        value = encode_weights(Key("class", segment), 0, Order(0, 1, 1), "ml_poly", part)
        assert to_bytes(decode_weights(value)[3]) == learned.by_segment.packed(segment)


def test_credit_of_an_older_generation_changes_nothing_and_is_counted() -> None:
    case = Case()
    held = Learned(3, BySegment({None: Contribution(AB, n=5)}))
    outcome = case.charge(held, case.one(case.block(generation=2)))
    assert outcome.learned.by_segment[None].n == 5
    assert outcome.changed == frozenset()
    assert outcome.counts == {"older-generation": 1}


def test_credit_of_a_newer_generation_begins_anew_also_in_segments_without_labels() -> None:
    case = Case()
    held = Learned(0, BySegment({None: Contribution(AB, n=5), "north": Contribution(AB, n=2)}))
    outcome = case.charge(held, case.one(case.block(generation=0)), case.one(case.block(generation=1)))
    assert outcome.learned.generation == 1
    assert {segment: part.n for segment, part in outcome.learned.by_segment.items()} == {None: 1, "north": 0}
    assert outcome.changed == {None, "north"}
    assert outcome.counts == {"older-generation": 1}


@pytest.mark.parametrize("changed", [{"algorithm": "bank"}, {"values": (1.0, 1.0, 1.0)}])
def test_credit_of_another_algorithm_or_layout_changes_nothing_and_is_counted(
    changed: dict[str, str],
) -> None:
    case = Case()
    outcome = case.charge(NOTHING, case.one(case.block(**changed)))  # type: ignore[arg-type]
    assert outcome.learned.by_segment == {}
    assert outcome.counts == {"other-algorithm": 1}


def test_members_that_came_went_or_moved_are_matched_by_name() -> None:
    case = Case()
    orders = [("a", "b"), ("b", "c", "a"), ("c",), ("b", "a")]
    learned = NOTHING
    for members in orders:
        learned = case.charge(learned, case.one(case.block(members=members))).learned
    part = learned.by_segment[None]
    assert part.n == len(orders)
    expected = dict.fromkeys("abc", 0.0)
    for members in orders:
        for member, regret in zip(members, alone(members, 0).sums["R"].tolist(), strict=True):
            expected[member] += regret
    assert dict(zip(part.members, part.sums["R"].tolist(), strict=True)) == pytest.approx(expected, abs=1e-12)


def test_a_block_that_disappears_between_matching_and_charging_is_an_error_of_ours() -> None:
    case = Case()
    digest = case.block()
    one = case.one(digest)
    case.known.blocks.clear()
    with pytest.raises(StateError):
        case.charge(NOTHING, one)
