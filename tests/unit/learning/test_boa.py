"""BOA against the published figures of the R package opera, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.boa import BOA
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import Square
from stream_ensemble.errors import StateError
from tests.unit.learning.batches import batch, names, rows_of, trained
from tests.unit.learning.test_ml_poly import EXPERTS, electric_load


def test_electric_load_as_in_opera() -> None:
    stream = electric_load()
    boa, part = BOA(EXPERTS, loss=Square()), Contribution(EXPERTS)
    for r in range(100):
        row = slice(r, r + 1)
        one = Labelled(stream.outputs[row], stream.awake[row], stream.labels[row], np.ones(1), 0.0)
        boa.learn(part, boa.credit(boa.merge([part])), one)
    weights = boa.pool(boa.credit(part), np.ones((1, 3), np.bool_))[0]
    assert [round(float(w), 8) for w in weights] == [0.76757951, 0.15823262, 0.07418788]


def test_the_order_of_labels_changes_what_it_learns() -> None:
    boa = BOA(names(4))
    labelled = batch("bank", 40)
    credit = boa.credit(boa.merge([]))
    forward, backward = Contribution(names(4)), Contribution(names(4))
    boa.learn(forward, credit, labelled)
    boa.learn(backward, credit, rows_of(labelled, list(range(39, -1, -1))))
    assert np.abs(forward.sums["L"] - backward.sums["L"]).max() > 1e-6


def test_it_takes_no_label_back() -> None:
    boa = BOA(names(4))
    taken = batch("bank", 1)
    taken.scale = -taken.scale
    with pytest.raises(StateError, match="cannot take a label back"):
        boa.learn(Contribution(names(4)), boa.credit(boa.merge([])), taken)


def test_two_learners_cannot_be_merged() -> None:
    boa = BOA(names(4))
    part = trained(boa, "boa")
    with pytest.raises(StateError, match="2 contributions cannot be merged"):
        boa.merge([part, part])


def test_a_power_of_two_as_unit_leaves_the_weights() -> None:
    boa, everyone = BOA(names(4), loss=Square()), np.ones((1, 4), np.bool_)
    small, large = (trained(boa, "boa, square", scale=scale) for scale in (1.0, 2.0**20))
    difference = boa.pool(boa.credit(small), everyone) - boa.pool(boa.credit(large), everyone)
    assert np.abs(difference).max() <= 1e-9
