"""What each kind of task takes as an output and as a label."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.config import Task
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.losses import Absolute, Square
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.core.tasks.domain import Domain, Meaning
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import PartLabel

CLASSES, MANY, AHEAD = Classes(("x", "y")), ManyLabels(("x", "y")), Horizons(("1h", "6h"))
numbers = st.floats() | st.sampled_from([0.0, -0.0, 0.25, 0.5, 0.75, 1.0, 1.0005, 1.5, 1e100, -1e100, 1e101])


@pytest.mark.parametrize("domain", [CLASSES, MANY, AHEAD])
@given(output=st.lists(numbers, min_size=2, max_size=2))
def test_one_output_is_judged_as_many_are(domain: Domain, output: list[float]) -> None:
    [right] = domain.are_outputs(np.array([output])).tolist()
    try:
        domain.check(output)
    except RecordError:
        assert not right
    else:
        assert right
        assert domain.bounds[0] <= min(output) and max(output) <= domain.highest
    assert right or not domain.surely(output)


@pytest.mark.parametrize("domain", [CLASSES, MANY, AHEAD])
@pytest.mark.parametrize("output", [[], [1.0], [0.5, 0.25, 0.25]])
def test_an_output_of_another_length_is_none(domain: Domain, output: list[float]) -> None:
    assert not domain.surely(output)
    with pytest.raises(RecordError, match="expected 2"):
        domain.check(output)


@pytest.mark.parametrize(
    ("domain", "label", "meaning"),
    [
        (CLASSES, "y", Meaning("y", 1)),
        (CLASSES, 0, Meaning("x", 0)),
        (MANY, PartLabel("y", True), Meaning("true", 1, 1)),
        (MANY, PartLabel(0, 0.0), Meaning("false", 0, 0)),
        (AHEAD, PartLabel("6h", -1.5), Meaning("-1.5", -1.5, 1)),
        (AHEAD, PartLabel(0, 3), Meaning("3.0", 3.0, 0)),
        (AHEAD, PartLabel("1h", 1e100), Meaning("1e+100", 1e100, 0)),
    ],
)
def test_a_label_means_the_same_when_it_has_been_kept(
    domain: Domain, label: object, meaning: Meaning
) -> None:
    said = domain.meaning(label)  # type: ignore[arg-type]
    assert said == meaning
    assert type(said.number) is type(meaning.number)
    assert domain.kept(said.name, domain.parts[said.part] if domain.parts else None) == meaning


def test_zero_is_one_label_whatever_its_sign() -> None:
    assert AHEAD.meaning(PartLabel("1h", -0.0)) == AHEAD.meaning(PartLabel("1h", 0.0))
    assert AHEAD.meaning(PartLabel("1h", -0.0)).name == "0.0"


@pytest.mark.parametrize(
    ("domain", "label", "reason", "detail"),
    [
        (CLASSES, "z", "unknown-class", "label is 'z', which is not a class of the task"),
        (CLASSES, 2, "label-out-of-range", "label is 2, the task has classes 0..1"),
        (CLASSES, PartLabel("x", True), "unknown-part", "labels of this task are about the whole request"),
        (MANY, "x", "missing-field", "part: missing"),
        (MANY, PartLabel("z", True), "unknown-part", "part is 'z', expected 0..1 or one of x, y"),
        (MANY, PartLabel(2, True), "unknown-part", "part is 2, expected 0..1"),
        (MANY, PartLabel("x", 0.5), "label-out-of-range", "label is 0.5, expected true or false"),
        (AHEAD, PartLabel("1h", True), "label-out-of-range", "label is True, expected a number"),
        (AHEAD, PartLabel("1h", math.nan), "label-out-of-range", "label is nan"),
        (AHEAD, PartLabel("1h", -2e100), "label-out-of-range", "expected a number within"),
    ],
)
def test_what_a_label_cannot_say_is_refused_in_words(
    domain: Domain, label: object, reason: str, detail: str
) -> None:
    with pytest.raises(RecordError, match=detail) as refused:
        domain.meaning(label)  # type: ignore[arg-type]
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("domain", "name", "part"),
    [
        (CLASSES, "z", None),
        (CLASSES, "x", "y"),
        (MANY, "maybe", "x"),
        (MANY, "true", "z"),
        (MANY, "true", None),
        (AHEAD, "soon", "1h"),
        (AHEAD, "inf", "1h"),
        (AHEAD, "1.0", "2h"),
    ],
)
def test_a_label_kept_by_other_settings_may_mean_nothing_today(
    domain: Domain, name: str, part: str | None
) -> None:
    assert domain.kept(name, part) is None


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_each_class_of_many_is_fused_as_a_request_of_yes_and_no(
    requests: int, members: int, classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = tuple("abc"[:members])
    bank, domain = Bank(names), ManyLabels([f"c{c}" for c in range(classes)])
    credit = rng.random(len(bank.credit(bank.merge([]))))
    awake = rng.random((requests, members)) < 0.7
    outputs = rng.random((requests, members, classes)) * awake[..., None]
    found = domain.fused(lambda x, a: bank.fuse(credit, x, a), outputs, awake)
    assert found.shape == (requests, classes)
    for c in range(classes):
        alone = np.stack([1 - outputs[..., c], outputs[..., c]], axis=-1) * awake[..., None]
        assert (found[:, c] == bank.fuse(credit, alone, awake)[:, 1]).all()
    assert ((found >= 0) & (found <= 1 + 1e-12)).all()


def test_horizons_are_fused_by_the_same_weights() -> None:
    domain = Horizons(("1h", "6h", "24h"), "square")
    outputs = np.array([[[1.0, 2.0, 3.0], [3.0, 4.0, -5.0]]])
    awake = np.ones((1, 2), np.bool_)
    bank = Bank(("a", "b"), domain.loss)
    credit = bank.credit(bank.merge([]))
    assert domain.fused(lambda x, a: bank.fuse(credit, x, a), outputs, awake).tolist() == [[2.0, 3.0, -1.0]]


def test_the_settings_choose_the_kind() -> None:
    classes = domain_of(Task(classes=["x", "y"], sum_tolerance=0.25))
    assert isinstance(classes, Classes)
    assert classes.highest == 1.25
    many = domain_of(Task(kind="multilabel", classes=["x"]))
    assert isinstance(many, ManyLabels)
    assert many.parts == ("x",)
    absolute = domain_of(Task(kind="forecast", horizons=["1h"]))
    square = domain_of(Task(kind="forecast", horizons=["1h"], loss="square"))
    assert isinstance(absolute.loss, Absolute) and isinstance(square.loss, Square)
    assert square.names == square.parts == ("1h",)
