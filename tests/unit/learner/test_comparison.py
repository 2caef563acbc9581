"""Where live and recomputed contributions differ is named; rounding is no difference."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from stream_ensemble.config import Ensemble, Learning, Settings, Task
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.learner.comparison import Difference, differences
from stream_ensemble.learner.cut import Cut
from stream_ensemble.learner.ensemble import learned_ensemble
from stream_ensemble.learner.replay import Replayed
from stream_ensemble.messages import ControlState
from stream_ensemble.stores.contributions import Key, Order, Snapshot, Stored
from stream_ensemble.stores.weights_topic import Written

AB = ("a", "b")
WHOLE, NORTH = Key("class"), Key("class", "north")
ORDER = Order(0, 2, 9)
SIZES = {"R": np.array([100.0, 100.0]), "V": np.array([50.0, 50.0])}
ENSEMBLE = learned_ensemble(
    Settings(
        ensembles={
            "e": Ensemble(
                members=list(AB),
                task=Task(classes=["x", "y"]),
                learning=Learning(algorithm="ml_poly"),
            )
        }
    ),
    "e",
    group_id="g",
    data_dir=Path(),
)


def part(R: float = 3.0, *, n: int = 7, B: float = 1.0, members: tuple[str, ...] = AB) -> Contribution:
    sums = {"R": np.zeros(len(members)), "V": np.zeros(len(members))}
    sums["R"][members.index("a")] = R
    maxima = {"B": np.full(len(members), B)}
    return Contribution(members, sums, maxima, n, 6.0)


def cut(weights: dict[Key, Written], in_redis: Snapshot, controls: ControlState = NOTHING) -> Cut:
    return Cut(1, 1, weights, controls, {key: each.stored for key, each in weights.items()}, in_redis)


def found(
    live: Contribution,
    recomputed: Contribution,
    *,
    key: Key = WHOLE,
    algorithm: str = "ml_poly",
    order: Order = ORDER,
    corrected: int = 0,
) -> list[Difference]:
    written = {key: Written(Stored(order, to_bytes(live)), algorithm, 0)}
    in_redis = Snapshot({key: {0: Stored(order, to_bytes(live))}}, {})
    replayed = Replayed(
        order.generation,
        NOTHING,
        {key.segment: recomputed},
        {key.segment: SIZES},
        Counter(corrected=corrected),
    )
    return list(differences(ENSEMBLE, 0, cut(written, in_redis), replayed))


def test_the_same_is_the_same_whatever_the_order_of_the_members() -> None:
    assert found(part(), part()) == []
    assert found(part(), part(members=("b", "a"))) == []
    assert found(part(), part(members=("b", "a")), key=NORTH) == []


def test_rounding_of_the_increments_is_no_difference_and_more_is() -> None:
    assert found(part(3.0 + 1e-10), part()) == []
    (difference,) = found(part(3.0 + 4e-10), part())
    assert difference[:4] == (WHOLE, 0, "weights topic", "R of a")
    (difference,) = found(part(3.0 + 4e-10), part(), key=NORTH)
    assert difference.key == NORTH


def test_a_member_that_one_of_them_does_not_know_counts_as_zero() -> None:
    silent = part(members=("a", "b", "retired"))
    silent.maxima["B"][2] = 0.0
    assert found(part(), silent) == []
    more = part(members=("a", "b", "c"))
    more.sums["R"][2], more.maxima["B"][2] = 1.0, 0.0
    assert [difference.what for difference in found(part(), more)] == ["R of c"]


def test_another_count_is_named() -> None:
    (difference,) = found(part(n=8), part())
    assert (difference.what, difference.live, difference.expected) == ("n", "8", "7")


def test_a_maximum_counts_unless_a_label_was_corrected() -> None:
    assert [d.what for d in found(part(B=2.0), part())] == ["maximum of B of a", "maximum of B of b"]
    assert found(part(B=2.0), part(), corrected=1) == []


def test_what_another_algorithm_learned_is_not_what_the_learner_goes_on_with() -> None:
    assert {d.what for d in found(part(), part(), algorithm="bank")} == {
        "n",
        "clock",
        "R of a",
        "maximum of B of a",
        "maximum of B of b",
    }


@pytest.mark.parametrize(
    ("stored", "what", "live"),
    [
        (None, "field", "missing"),
        (Stored(Order(0, 2, 8), to_bytes(part())), "order", "0.2.8"),
        (Stored(ORDER, to_bytes(part(3.5))), "bytes", "other ones"),
    ],
)
def test_redis_must_hold_the_very_bytes_of_the_topic(stored: Stored | None, what: str, live: str) -> None:
    in_redis = Snapshot({WHOLE: {} if stored is None else {0: stored}}, {})
    seen = cut({WHOLE: Written(Stored(ORDER, to_bytes(part())), "ml_poly", 0)}, in_redis)
    assert seen.agrees is (what == "bytes")
    replayed = Replayed(0, NOTHING, {None: part()}, {None: SIZES})
    (difference,) = differences(ENSEMBLE, 0, seen, replayed)
    assert (difference.where, difference.what, difference.live) == ("redis", what, live)


def test_another_generation_is_a_difference() -> None:
    seen = cut({}, Snapshot({}, {}))
    assert [d.what for d in differences(ENSEMBLE, 0, seen, Replayed(2))] == ["generation"]


def test_another_control_state_is_a_difference() -> None:
    seen = cut({}, Snapshot({}, {}), ControlState(number=3, id="x"))
    (difference,) = differences(ENSEMBLE, 0, seen, Replayed(0, ControlState(number=4, id="y")))
    assert difference[3:] == ("control state", "number 3", "number 4")
