"""The order a contribution stands under, and what happens when Redis remembers more than the topics."""

from __future__ import annotations

import numpy as np

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.labels.parts import Parts
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.learner.standing import Standing, Step
from stream_ensemble.messages import Credit
from stream_ensemble.stores.contributions import Order
from stream_ensemble.stores.memory_labels import MemoryLabelStore

AB = ("a", "b")


def step(standing: Standing, *, labels: int = 0, overtaken_by: Order | None = None) -> Step:
    known = Changes(MemoryLabelStore())
    digest, block = credit_block.encode("ml_poly", 0, 0, AB, np.array([1.0, 1.0]))
    known.blocks[digest] = (0, block)
    components = {"a": [0.9, 0.1], "b": [0.2, 0.8]}
    charges = [Charge(Credit(everywhere=digest), None, components, 0, 1.0, 1, True)] * labels
    return standing.after(charges, known, MLPoly, overtaken_by)


FRESH = Standing(Learned(0, Parts()), Order(0, 0, 0), epoch=1)
HELD = Standing(Learned(0, Parts({None: Contribution(AB, n=4)})), Order(0, 3, 17), epoch=5)


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
