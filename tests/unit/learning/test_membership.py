"""Who is awaited, and the warm start."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.control import NOTHING, applied, joined
from stream_ensemble.core.learning.membership import (
    MOST_WARM,
    Membership,
    WarmStart,
    awaited_by,
    membership,
)
from stream_ensemble.messages import Control, ControlState

AB, S = ("a", "b"), ("s",)


def control(number: int, action: str, member: str, **more: object) -> Control:
    fields: dict[str, object] = {"version": 1, "kind": "control", "number": number, "id": f"id{number}"}
    return Control(**{**fields, "action": action, "member": member, **more})  # type: ignore[arg-type]


def state(*controls: Control) -> ControlState:
    found = NOTHING
    for one in controls:
        found = applied(found, one)
    return found


def test_the_settings_say_who_is_awaited_until_a_control_record_does() -> None:
    assert awaited_by(NOTHING, AB, S) == ["a", "b"]
    admitted = control(1, "admit", "s")
    assert awaited_by(state(admitted), AB, S) == ["a", "b", "s"]
    assert awaited_by(state(admitted, control(2, "retire", "a")), AB, S) == ["b", "s"]
    # One about somebody the settings do not have means nothing; moved to the members it is one.
    assert awaited_by(state(admitted), AB, ()) == ["a", "b"]
    assert awaited_by(state(admitted), (*AB, "s"), ()) == ["a", "b", "s"]


def test_never_nobody_is_awaited() -> None:
    assert awaited_by(state(control(1, "retire", "a"), control(2, "retire", "b")), AB, S) == ["a", "b"]


def test_the_newest_record_about_a_member_counts_in_whatever_order_they_come() -> None:
    one, other = control(1, "admit", "s", share=0.1, labels=10.0), control(2, "retire", "s")
    assert state(one, other).members == state(other, one).members
    assert joined([state(one), state(other)]).members == state(one, other).members
    assert awaited_by(state(other, one), AB, S) == ["a", "b"]
    # Neither takes a pin away.
    assert state(one, other).pins == ()


@pytest.mark.parametrize(("labels", "share"), [(0.0, 0.2), (25.0, 0.15), (100.0, 0.0), (1e9, 0.0)])
def test_a_warm_share_falls_to_nothing_over_the_labels_it_was_charged_for(
    labels: float, share: float
) -> None:
    admitted = state(control(1, "admit", "s", share=0.2, labels=100.0, generation=3))
    found = membership(admitted, AB, S, 3, np.array([7.0, 7.0, labels]))
    assert found.awaited == 0b111
    assert found.shares == (pytest.approx((0.0, 0.0, share)) if share else ())


def test_a_warm_start_is_of_its_generation() -> None:
    admitted = state(control(1, "admit", "s", share=0.2, labels=100.0, generation=3))
    assert membership(admitted, AB, S, 4, None) == Membership(0b111)


def test_all_shares_together_leave_something_of_what_was_learned() -> None:
    both = state(*(control(n, "admit", name, share=0.8, labels=9.0) for n, name in enumerate(("s", "t"), 1)))
    found = membership(both, AB, ("s", "t"), 0, None)
    assert sum(found.shares) == pytest.approx(MOST_WARM)


def test_the_others_keep_their_ratios_and_the_answer_is_the_stated_mixture() -> None:
    bank = Bank(("a", "b", "s"))
    rng = np.random.default_rng(1)
    credit = rng.random(len(bank.credit(bank.merge([]))))
    outputs = rng.dirichlet(np.ones(4), (5, 3))
    awake = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]], np.bool_)
    outputs *= awake[..., None]
    warm = WarmStart((0.0, 0.0, 0.3), partial(bank.pool, credit), partial(bank.fuse, credit))
    weights, fused = warm.pool(awake), warm.fuse(outputs, awake)
    own_weights, own = bank.pool(credit, awake), bank.fuse(credit, outputs, awake)
    assert weights.sum(axis=1) == pytest.approx([1, 1, 1, 1, 0])
    assert weights[0, 0] / weights[0, 1] == pytest.approx(own_weights[0, 0] / own_weights[0, 1])
    assert weights[0, 2] == pytest.approx(0.3 + 0.7 * own_weights[0, 2])
    np.testing.assert_allclose(fused[:3], 0.7 * own[:3] + 0.3 * outputs[:3, 2])
    np.testing.assert_array_equal(fused[3:], own[3:])
