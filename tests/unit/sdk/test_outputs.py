"""Whatever form a model's outputs have, they become rows of floats; what is wrong is named by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.outputs import rows_of

DOMAIN = Classes(("x", "y", "z"))
LISTS = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "outputs",
    [
        LISTS,
        tuple(map(tuple, LISTS)),
        np.array(LISTS),
        np.array(LISTS, np.float32),
        np.array(LISTS, np.float16),
        np.asfortranarray(LISTS),
        torch.tensor(LISTS),
        torch.tensor(LISTS, dtype=torch.bfloat16),
        torch.tensor(LISTS, requires_grad=True),
        [np.array(row) for row in LISTS],
        [torch.tensor(row, requires_grad=True) for row in LISTS],
    ],
    ids=lambda outputs: f"{type(outputs).__name__}-{getattr(outputs, 'dtype', type(outputs[0]).__name__)}",
)
def test_every_form_of_outputs_gives_the_same_rows(outputs: object) -> None:
    rows = rows_of(outputs, 2, DOMAIN)
    assert rows.outputs == LISTS
    assert rows.problems == {}
    assert type(rows.outputs[0][0]) is float  # type: ignore[index]


def test_integers_are_probabilities_too() -> None:
    assert rows_of([[1, 0, 0]], 1, DOMAIN).outputs == [[1.0, 0.0, 0.0]]


def test_none_in_a_list_is_an_abstention_and_the_other_rows_keep_their_places() -> None:
    rows = rows_of([None, torch.tensor([0.5, 0.5, 0.0]), None, [0.0, 0.0, 1.0]], 4, DOMAIN)
    assert rows.outputs == [None, [0.5, 0.5, 0.0], None, [0.0, 0.0, 1.0]]
    assert rows.problems == {}


@pytest.mark.parametrize("outputs", [[], np.empty((0, 3)), torch.empty(0, 3)])
def test_no_requests_have_no_outputs(outputs: object) -> None:
    assert rows_of(outputs, 0, DOMAIN) == ([], {})


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([float("nan"), 0.5, 0.5], "output[0]: nan is not between 0 and 1"),
        ([0.5, float("inf"), 0.5], "output[1]: inf is not between 0 and 1"),
        ([1.5, -0.5, 0.0], "output[1]: -0.5 is not between 0 and 1"),
        ([0.5, 0.25, 0.2], "output: sums to 0.95, expected 1 within 0.001"),
        ([1e308, 1e308, 1e308], "output: sums to inf, expected 1 within 0.001"),
        ([0.5, 0.5], "2 numbers, expected 3, one for each of x, y, z"),
        ([], "0 numbers, expected 3, one for each of x, y, z"),
        ("abc", "'abc' is not 3 numbers"),
        ([["a"], 1, 2], "[['a'], 1, 2] is not 3 numbers"),
        (0.5, "0.5 is not 3 numbers"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_in_words_and_spoils_no_other_row(row: object, problem: str) -> None:
    rows = rows_of([LISTS[0], row, LISTS[1]], 3, DOMAIN)
    assert rows.problems == {1: problem}
    assert [rows.outputs[0], rows.outputs[2]] == LISTS


def test_every_wrong_row_of_an_array_is_named() -> None:
    block = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.5], [np.nan] * 3])
    assert sorted(rows_of(block, 3, DOMAIN).problems) == [1, 2]


def test_an_array_of_the_wrong_width_is_wrong_in_every_row() -> None:
    assert rows_of(np.full((2, 2), 0.5), 2, DOMAIN).problems == dict.fromkeys(
        [0, 1], "2 numbers, expected 3, one for each of x, y, z"
    )


def test_sums_are_judged_by_the_settings_tolerance() -> None:
    loose = Classes(("x", "y"), 0.1)
    assert rows_of([[0.55, 0.5]], 1, loose).problems == {}
    assert rows_of([[0.65, 0.5]], 1, loose).problems != {}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (LISTS, "2 outputs for 3 requests"),
        (np.array(LISTS), "2 outputs for 3 requests"),
        (np.array(0.5), "0 outputs for 3 requests"),
        (None, "outputs are a NoneType; expected 3 rows"),
        ("abc", "outputs are a str; expected 3 rows"),
        ({"a": 1}, "outputs are a dict; expected 3 rows"),
    ],
)
def test_what_is_no_row_for_each_request_is_refused_whole(outputs: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        rows_of(outputs, 3, DOMAIN)
