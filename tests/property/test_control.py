"""Control records come to the same in whatever order they are applied, once or often."""

from __future__ import annotations

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.learning.control import NOTHING, applied, joined, pin_of
from stream_ensemble.messages import Control, ControlState, PinnedWeights

controls = st.builds(
    Control,
    version=st.just(1),
    kind=st.just("control"),
    number=st.integers(1, 6),
    id=st.sampled_from("pqr"),
    action=st.sampled_from(["pin", "unpin", "reset"]),
    by=st.sampled_from(["operator", "guardrail"]),
    segment=st.sampled_from([None, "north", "south"]),
    pinned=st.builds(PinnedWeights, weights=st.just({"a": 1.0})),
    generation=st.integers(0, 3),
)
# No two records have the same number and id, as ids are random.
sent = st.lists(controls, max_size=8, unique_by=lambda control: (control.number, control.id))


def after(some: list[Control]) -> ControlState:
    return reduce(applied, some, NOTHING)


@given(some=sent, data=st.data())
def test_order_and_repetition_make_no_difference(some: list[Control], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(some), max_size=4)) if some else []
    other = data.draw(st.permutations([*some, *again]))
    assert after(other) == after(some)


@given(some=sent, split=st.lists(st.integers(0, 2), min_size=8, max_size=8))
def test_partitions_that_have_each_seen_some_come_to_what_one_that_has_seen_all_does(
    some: list[Control], split: list[int]
) -> None:
    apart = [
        after([control for control, place in zip(some, split, strict=False) if place == p]) for p in range(3)
    ]
    assert joined(apart) == after(some)
    assert joined([*apart, after(some)]) == after(some)


@given(some=sent)
def test_the_newest_word_on_a_segment_holds_and_an_operators_before_the_guardrails(
    some: list[Control],
) -> None:
    state = after(some)

    def newest(by: str, segment: str | None) -> Control | None:
        about = [c for c in some if c.action != "reset" and (c.by, c.segment) == (by, segment)]
        last = max(about, key=lambda c: (c.number, c.id), default=None)
        return last if last is not None and last.action == "pin" else None

    for segment in ("north", None):
        expected = (
            newest("operator", segment)
            or newest("operator", None)
            or newest("guardrail", segment)
            or newest("guardrail", None)
        )
        found = pin_of(state, segment)
        assert (found and (found.number, found.id)) == (expected and (expected.number, expected.id))
