"""The order a contribution stands under, and what happens when Redis remembers more than the topics."""

from __future__ import annotations

import numpy as np

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.learner.standing import Standing, Step, changes_of
from stream_ensemble.messages import Control, Credit, PinnedWeights
from stream_ensemble.stores.contributions import Order
from stream_ensemble.stores.control_state import CONTROLS, decode_state
from stream_ensemble.stores.memory_labels import MemoryLabelStore

AB = ("a", "b")


def step(standing: Standing, *, labels: int = 0, overtaken_by: Order | None = None) -> Step:
    known = Changes(MemoryLabelStore())
    digest, block = credit_block.encode("ml_poly", 0, 0, AB, np.array([1.0, 1.0]))
    known.blocks[digest] = (0, block)
    components = {"a": [0.9, 0.1], "b": [0.2, 0.8]}
    charges = [Charge(Credit(everywhere=digest), None, components, 0, 1.0, 1, True)] * labels
    return standing.after(charges, known, MLPoly, overtaken_by)


FRESH = Standing(Learned(0, BySegment()), Order(0, 0, 0), epoch=1)
HELD = Standing(Learned(0, BySegment({None: Contribution(AB, n=4)})), Order(0, 3, 17), epoch=5)


def test_without_charges_the_standing_and_its_order_stay() -> None:
    after = step(HELD)
    assert after.standing is HELD
    assert after.changed == {}


def test_a_change_stands_under_this_owners_epoch_and_the_next_sequence() -> None:
    after = step(HELD, labels=2)
    assert after.standing.order == Order(0, 5, 18)
    assert after.changed.keys() == {None}
    assert after.changed[None].n == 6


def test_an_owner_that_redis_overtook_says_everything_again_above_it() -> None:
    after = step(HELD, overtaken_by=Order(2, 40, 1000))
    assert after.standing.order == Order(2, 41, 18)
    assert after.standing.learned.generation == 2
    assert after.changed.keys() == {None}


def test_an_owner_that_learned_nothing_still_rises_above_what_redis_remembers() -> None:
    after = step(FRESH, overtaken_by=Order(0, 7, 7))
    assert after.standing.order > Order(0, 7, 7)
    assert after.changed == {}


def test_what_stands_below_overtakes_nobody() -> None:
    assert step(HELD, overtaken_by=Order(0, 3, 16)).standing is HELD


def order(action: str, number: int = 1, **fields: object) -> Control:
    return Control(version=1, kind="control", number=number, id="x", action=action, **fields)  # type: ignore[arg-type]


def ordered(standing: Standing, *orders: Control, labels: int = 0) -> Step:
    known = Changes(MemoryLabelStore())
    digest, block = credit_block.encode("ml_poly", 0, 0, AB, np.array([1.0, 1.0]))
    known.blocks[digest] = (0, block)
    charges = [Charge(Credit(everywhere=digest), None, {"a": [0.9, 0.1]}, 0, 1.0, 1, True)] * labels
    return standing.after(charges, known, MLPoly, None, orders)


def test_a_pin_changes_no_contribution_and_stands_under_an_order_of_its_own() -> None:
    pin = order("pin", pinned=PinnedWeights(weights={"a": 1.0}))
    after = ordered(HELD, pin)
    assert after.changed == {}
    assert after.controlled
    assert after.standing.order == Order(0, 5, 18)
    assert after.standing.controls.number == 1
    (change,) = changes_of("class", after, 0)
    assert (change.key, change.order) == (CONTROLS, after.standing.order)
    assert decode_state(change.value) == after.standing.controls


def test_a_reset_empties_every_segment_and_drops_what_came_with_it() -> None:
    standing = Standing(
        Learned(3, BySegment({"north": Contribution(AB, n=2)})),
        Order(3, 3, 17),
        epoch=5,
        controls=HELD.controls,
    )
    after = ordered(standing, order("reset", generation=4), labels=2)
    assert after.standing.order == Order(4, 5, 18)
    assert after.changed.keys() == {None, "north"}
    assert all(part.n == 0 and not part.sums for part in after.changed.values())
    again = ordered(after.standing, order("reset", 2, generation=4))
    assert again.changed == {}
    assert again.standing.controls.number == 2


def test_labels_of_older_credit_change_nothing_after_a_reset() -> None:
    reset = ordered(HELD, order("reset", generation=1)).standing
    after = ordered(reset, labels=3)
    assert after.counts == {"older-generation": 3}
    assert after.standing is reset


def test_an_owner_that_redis_overtook_says_its_control_state_again() -> None:
    pinned = ordered(HELD, order("pin", pinned=PinnedWeights(weights={"a": 1.0}))).standing
    after = step(pinned, overtaken_by=Order(2, 40, 1000))
    assert after.controlled
    assert after.changed.keys() == {None}
    assert not step(HELD, overtaken_by=Order(2, 40, 1000)).controlled
