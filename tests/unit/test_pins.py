"""Pinned weights as a fuser uses them: to the bit where they fit, by member where they do not."""

from __future__ import annotations

import numpy as np

from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.messages import ControlState, CreditBlock, Pin, PinnedWeights
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.control_state import encode_state
from stream_ensemble.stores.pinned import Pinned, Pins, pinned_by

AB = ("a", "b")
BANK = Bank(AB)
CREDIT = np.random.default_rng(2).random(len(BANK.credit(BANK.merge([]))))
_, BLOCK = credit_block.encode("bank", 0, 9, AB, CREDIT)


def pin(weights: dict[str, float], credit: CreditBlock | None = None, number: int = 1) -> Pin:
    return Pin(number=number, id="x", pinned=PinnedWeights(weights=weights, credit=credit))


def shares(held: Pinned, *awake: bool) -> list[float]:
    shares: list[float] = held.algorithm.pool(held.values, np.array([awake]))[0].tolist()
    return shares


def test_kept_credit_is_used_to_the_bit_while_algorithm_and_members_are_the_same() -> None:
    held = pinned_by(pin({"a": 1.0}, BLOCK), BANK)
    assert held.algorithm is BANK
    assert held.values.tolist() == CREDIT.tolist()


def test_with_another_algorithm_or_other_members_the_weights_by_member_are_used() -> None:
    for algorithm in (MLPoly(AB), Bank(("b", "a")), Bank(("a", "b", "c"))):
        held = pinned_by(pin({"a": 3.0, "b": 1.0}, BLOCK), algorithm)
        assert held.algorithm.linear
        assert held.algorithm.members == algorithm.members
        by_name = dict(zip(algorithm.members, shares(held, *[True] * len(algorithm.members)), strict=True))
        assert by_name == {"a": 0.75, "b": 0.25} | ({"c": 0.0} if "c" in algorithm.members else {})


def test_credit_that_is_too_short_or_negative_is_not_used() -> None:
    for values in (CREDIT[:-1], -CREDIT):
        _, block = credit_block.encode("bank", 0, 9, AB, values)
        assert pinned_by(pin({"a": 1.0}, block), BANK).values.tolist() == [1.0, 0.0]


def test_where_only_members_without_weight_are_awake_they_weigh_the_same() -> None:
    held = pinned_by(pin({"a": 1.0}), MLPoly(("a", "b", "c")))
    assert shares(held, False, True, True) == [0.0, 0.5, 0.5]


def test_what_was_seen_once_stays_whatever_is_read_later() -> None:
    pins = Pins(BANK)
    assert pins.of(None) is None
    new = ControlState(number=2, id="x", pins=(pin({"a": 1.0}, number=2),))
    old = ControlState(number=1, id="x", pins=(pin({"b": 1.0}, number=1),))
    pins.take({0: Stored(Order(0, 1, 1), encode_state(old)), 1: Stored(Order(0, 1, 1), encode_state(new))})
    held = pins.of("north")
    assert held is not None
    assert held.number == 2
    pins.take({0: Stored(Order(0, 1, 1), encode_state(old))})
    assert pins.of("north") is held
    pins.take({0: Stored(Order(0, 1, 1), b"nonsense")})
    assert pins.of("north") is held
    assert len(pins.refused) == 1
    unpinned = ControlState(number=3, id="x", pins=(Pin(number=3, id="x"),))
    pins.take({0: Stored(Order(0, 1, 2), encode_state(unpinned))})
    assert pins.of("north") is None
