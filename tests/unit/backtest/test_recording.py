"""What a recording must be, and that the message names the place where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_ensemble.cli.backtest.recording import Raw, checked
from stream_ensemble.errors import SettingsError
from tests.unit.backtest.recordings import MEMBERS, classes, values


def _raw(arrays: dict[str, Any]) -> Raw:
    return Raw(arrays["P"], arrays["y"], MEMBERS)


def _at(array: np.ndarray, place: Any, value: float) -> np.ndarray:
    changed = np.array(array, np.float64)
    changed[place] = value
    return changed


CLASSES, VALUES = classes(), values()


@pytest.mark.parametrize(
    ("loss", "P", "y", "said"),
    [
        ("log", CLASSES["P"][0, 0], CLASSES["y"], r"P has the shape \(3,\): expected T x K or T x K x C"),
        ("log", np.zeros((0, 3, 3)), np.zeros(0), r"P has the shape \(0, 3, 3\)"),
        ("log", CLASSES["P"], CLASSES["y"][:-1], r"y has the shape \(59,\): expected \(60,\)"),
        ("log", CLASSES["P"], np.zeros((60, 14)), r"y has the shape \(60, 14\): expected \(60,\)"),
        ("log", CLASSES["P"].astype(str), CLASSES["y"], "P holds <U.*: expected numbers"),
        ("log", CLASSES["P"], CLASSES["y"].astype(str), "y holds <U.*: expected numbers"),
        ("log", _at(CLASSES["P"], (7, 1, 0), np.inf), CLASSES["y"], "P is infinite in row 7 of b"),
        (
            "log",
            CLASSES["P"],
            _at(CLASSES["y"], 4, np.nan),
            "y is nan in row 4: expected a class, one of 0 to 2",
        ),
        ("log", CLASSES["P"], _at(CLASSES["y"], 4, 3), "y is 3 in row 4"),
        ("log", CLASSES["P"], _at(CLASSES["y"], 4, -1), "y is -1 in row 4"),
        ("brier", CLASSES["P"], _at(CLASSES["y"], 4, 0.5), "y is 0.5 in row 4"),
        ("log", VALUES["P"], CLASSES["y"], "in row 0 of a: log needs probabilities; for values use square"),
        ("brier", CLASSES["P"] * 0.9, CLASSES["y"], "the probabilities sum to 0.9 in row 0 of a"),
        ("square", CLASSES["P"], VALUES["y"], "an output has 3 numbers and square needs one"),
        ("absolute", VALUES["P"], _at(VALUES["y"], 9, np.nan), "y is nan in row 9; expected a number"),
        ("square", VALUES["P"], _at(VALUES["y"], 9, np.inf), "y is inf in row 9; expected a number"),
    ],
)
def test_what_does_not_fit_is_named(loss: str, P: np.ndarray, y: np.ndarray, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        checked(Raw(P, y, MEMBERS), loss, None)


@pytest.mark.parametrize(
    ("names", "said"), [(("a", "b"), "names has 2 names: expected 3"), (("a", "b", "a"), "different names")]
)
def test_names_are_one_for_each_member(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        checked(Raw(CLASSES["P"], CLASSES["y"], names), "log", None)


def test_without_names_members_are_numbered() -> None:
    assert checked(Raw(CLASSES["P"], CLASSES["y"]), "log", None)[0].members == (
        "member0",
        "member1",
        "member2",
    )


def test_one_probability_is_that_of_class_1() -> None:
    rng = np.random.default_rng(0)
    p, y = rng.random((20, 2)), rng.integers(0, 2, 20)
    single, _ = checked(Raw(p, y), "log", None)
    both, _ = checked(Raw(np.stack([1 - p, p], axis=2), y), "log", None)
    assert (single.outputs == both.outputs).all()


def test_an_output_with_a_nan_in_it_is_asleep() -> None:
    recording, _ = checked(_raw(CLASSES | {"P": _at(CLASSES["P"], (3, 1, 2), np.nan)}), "log", None)
    assert np.argwhere(~recording.awake).tolist() == [[3, 1]]
    assert (recording.outputs[3, 1] == 0).all()
