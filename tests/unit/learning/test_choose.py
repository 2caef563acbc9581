"""Names stand for algorithms; a live ensemble is refused those that need the labels in order."""

from __future__ import annotations

import typing
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.config import Admission, Guardrail, Learning, Task
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.calibration import calibrates
from stream_ensemble.core.learning.choose import ALGORITHMS, ORDER_DEPENDENT, Options, make, named
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.guardrail import judged
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.errors import SettingsError

MEMBERS = ("a", "b", "c")
TASK = Task(classes=["x", "y"])


def _learning(algorithm: str, *, guardrail: bool = False, calibration: bool = False) -> Any:
    return SimpleNamespace(
        algorithm=algorithm,
        half_life=50.0,
        floor=0.01,
        weights={"a": 1.0, "b": 2.0, "c": 0.0},
        guardrail=Guardrail(enabled=guardrail),
        admission=Admission(),
        calibration=calibration,
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_name_makes_the_algorithm_that_says_it(name: str) -> None:
    algorithm = named(name, MEMBERS, LogLoss(), Options(weights={"a": 1.0}))
    assert algorithm.name == name
    assert algorithm.members == MEMBERS
    assert algorithm.order_free == (name not in ORDER_DEPENDENT)


def test_the_settings_can_name_every_one_and_bank_is_the_default() -> None:
    (field,) = [field for field in msgspec.structs.fields(Learning) if field.name == "algorithm"]
    assert typing.get_args(field.type.__origin__) == tuple(ALGORITHMS)
    assert field.default == "bank"


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "boa"])
def test_a_live_ensemble_takes_every_order_free_one(name: str) -> None:
    assert make(_learning(name), TASK, MEMBERS).name == name


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ORDER_DEPENDENT])
def test_with_a_guardrail_it_is_the_same_algorithm_with_losses_beside(name: str) -> None:
    plain, guarded = (make(_learning(name, guardrail=on), TASK, MEMBERS) for on in (False, True))
    assert (guarded.name, guarded.members, guarded.linear) == (plain.name, plain.members, plain.linear)
    credit = plain.credit(plain.merge([]))
    assert guarded.credit(guarded.merge([])).tolist() == credit.tolist()
    part = Contribution(MEMBERS)
    awake = np.ones((1, 3), np.bool_)
    outputs = np.array([[[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]])
    guarded.learn(part, credit, Labelled(outputs, awake, np.array([0]), np.ones(1), 0.0))
    found = judged(guarded.merge([part]))
    assert found is not None
    assert found.labels == 1.0


@pytest.mark.parametrize("guardrail", [False, True])
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ORDER_DEPENDENT])
def test_with_calibration_too(name: str, guardrail: bool) -> None:
    plain = make(_learning(name, guardrail=guardrail), TASK, MEMBERS)
    beside = make(_learning(name, guardrail=guardrail, calibration=True), TASK, MEMBERS)
    assert (calibrates(plain), calibrates(beside)) == (False, True)
    assert (beside.name, beside.members, beside.linear) == (plain.name, plain.members, plain.linear)
    assert beside.half_lives.items() > plain.half_lives.items()


def test_a_live_ensemble_refuses_one_that_needs_the_labels_in_order() -> None:
    with pytest.raises(SettingsError, match=r"^learning\.algorithm = 'boa': its weights depend on the order"):
        make(_learning("boa"), TASK, MEMBERS)


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"learning\.algorithm 'adam': expected one of bank, ml_poly"):
        make(_learning("adam"), TASK, MEMBERS)


def test_fixed_weights_are_by_name_and_an_absent_one_is_zero() -> None:
    algorithm = named("fixed", MEMBERS, LogLoss(), Options(weights={"c": 3.0, "a": 1.0}))
    weights = algorithm.pool(algorithm.credit(algorithm.merge([])), np.ones((1, 3), np.bool_))
    assert weights.tolist() == [[0.25, 0.0, 0.75]]
