"""A wrong argument is named and refused before Kafka is asked: none of these publishers is connected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream_ensemble import config
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.sdk import (
    FeedbackPublisher,
    InvalidInputError,
    PredictionPublisher,
    RequestPublisher,
)

ENSEMBLE = config.Ensemble(members=["a", "b"], task=config.Task(classes=["cat", "dog", "other"]))
SETTINGS = config.Settings(ensembles={"e": ENSEMBLE})
RIGHT = [0.5, 0.25, 0.25]


async def test_a_wrong_row_is_named_with_its_request() -> None:
    with pytest.raises(InvalidInputError, match=r"row 1 \(request 'r1'\): output: sums to 1.5"):
        await PredictionPublisher(SETTINGS, "e", "a").publish_many(["r0", "r1"], [RIGHT, [0.5, 0.5, 0.5]])


async def test_a_refusal_is_a_value_error_and_one_of_ours_that_repeating_does_not_help() -> None:
    with pytest.raises(ValueError, match="2 outputs for 1 requests") as caught:
        await PredictionPublisher(SETTINGS, "e", "a").publish_many(["r0"], [RIGHT, RIGHT])
    assert isinstance(caught.value, StreamEnsembleError)
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": [1]}, "at: 1 values for 2 requests"),
        ({"at": np.array([1, 2, 3])}, "at: 3 values for 2 requests"),
        ({"at": [1, -2]}, r"at = .*\$\[1\]"),
        ({"at": 1.5}, r"Expected `int \| null`, got `float`"),
        ({"segments": ["s"]}, "segments: 1 values for 2 requests"),
        ({"segments": ""}, r"length >= 1 - at `\$\[0\]`"),
    ],
)
async def test_what_goes_with_many_outputs_is_checked_row_by_row(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await PredictionPublisher(SETTINGS, "e", "a").publish_many(["r0", "r1"], [RIGHT, RIGHT], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"at": [1]}, "at: 1 values for 2 requests"),
        ({"at": [1, -2]}, r"at = .*\$\[1\]"),
        ({"segments": ["s", ""]}, r"length >= 1 - at `\$\[1\]`"),
        ({"traceparents": [None, "x"]}, "traceparent 'x'"),
        ({"errors": [None]}, "errors: 1 values for 2 requests"),
        ({"outputs": [RIGHT, [0.5, 0.5, 0.5]]}, r"row 1 \(request 'r1'\): output: sums to 1.5"),
        ({"outputs": np.eye(3)}, "3 outputs for 2 requests"),
        ({"request_ids": ["r0", ""]}, "request ids"),
        ({"request_ids": ["r0", "r1" * 200]}, "request ids"),
    ],
)
async def test_what_is_wrong_with_a_batch_is_named(arguments: dict[str, Any], message: str) -> None:
    right = {"request_ids": ["r0", "r1"], "outputs": [RIGHT, RIGHT]}
    with pytest.raises(InvalidInputError, match=message):
        await PredictionPublisher(SETTINGS, "e", "a").publish_batch(**(right | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["cat"]}, "labels: 1 values for 2 requests"),
        ({"labels": ["cat", "fox"]}, "row 1: label 'fox': expected 0 to 2 or one of cat, dog, other"),
        ({"weights": [1, 0]}, r"weights = .*\$\[1\]"),
        ({"revisions": -1}, r"revisions = .*\$\[0\]"),
        ({"at": "now"}, r"at = .*\$\[0\]"),
    ],
)
async def test_what_is_wrong_with_a_batch_of_labels_is_named(arguments: dict[str, Any], message: str) -> None:
    right = {"request_ids": ["r0", "r1"], "labels": ["cat", 2]}
    with pytest.raises(InvalidInputError, match=message):
        await FeedbackPublisher(SETTINGS, "e").publish_batch(**(right | arguments))


async def test_an_error_for_a_wrong_request_id_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="request ids"):
        await PredictionPublisher(SETTINGS, "e", "a").error("", "text")


@pytest.mark.parametrize("label", [3, -1, "fox", True, 1.0, None, [0], np.float64(1)])
async def test_a_label_that_is_no_class_is_refused_with_the_classes_there_are(label: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected 0 to 2 or one of cat, dog, other"):
        await FeedbackPublisher(SETTINGS, "e").publish("r", label)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"weight": 0}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"weight": float("inf")}, "weight"),
        ({"revision": -1}, "revision"),
        ({"revision": 0.5}, "revision"),
        ({"at": "now"}, "at"),
    ],
)
async def test_what_goes_with_a_label_is_checked(arguments: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"\$\.{path}"):
        await FeedbackPublisher(SETTINGS, "e").publish("r", "cat", **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": []}, r"expected some of \['a', 'b'\]"),
        ({"members": ["a", "q"]}, r"expected some of \['a', 'b'\]"),
        ({"members": "a"}, r"expected some of \['a', 'b'\]"),
        ({"deadline_ms": 0}, r"\$\.deadline_ms"),
        ({"features": object()}, "features: object has no JSON form"),
        ({"segment": "s" * 129}, r"\$\.segment"),
        ({"features": "x" * (1 << 20)}, "row 0: .* bytes, at most .* fit a record"),
        ({"traceparent": "x"}, "traceparent"),
    ],
)
async def test_what_goes_with_a_request_is_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await RequestPublisher(SETTINGS, "e").publish("r", **arguments)


async def test_a_publisher_that_was_not_entered_says_how_to() -> None:
    with pytest.raises(RuntimeError, match="use it inside `async with`"):
        await FeedbackPublisher(SETTINGS, "e").publish("r", "cat")
