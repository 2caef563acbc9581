"""Names, keys, times and trace contexts are checked before anything is sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_ensemble import config
from stream_ensemble.errors import SettingsError
from stream_ensemble.messages import Milliseconds
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.lookup import (
    checked,
    ensemble_of,
    keys_of,
    predictions_topic,
    requests_topic,
    trace_headers,
    traceparent_of,
)

TASK = config.Task(classes=["x", "y"])
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings(**topics: str) -> config.Settings:
    ensemble = config.Ensemble(members=["a", "b"], task=TASK, topics=config.Topics(**topics))
    return config.Settings(ensembles={"e": ensemble})


def test_an_unknown_ensemble_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no ensemble 'q' in the settings; there is \['e'\]"):
        ensemble_of(settings(), "q")


def test_an_unknown_member_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingsError, match=r"no member 'q' in ensemble 'e'; its members are \['a', 'b'\]"):
        predictions_topic(settings(), "e", "q")


def test_each_member_has_its_topic_unless_all_share_one() -> None:
    assert predictions_topic(settings(), "e", "b") == "e.predictions.b"
    assert predictions_topic(settings(predictions="{ensemble}.p"), "e", "b") == "e.p"


def test_an_ensemble_without_a_requests_topic_takes_no_requests() -> None:
    with pytest.raises(SettingsError, match="has no requests topic"):
        requests_topic(settings(requests=""), "e")


def test_the_key_is_the_request_id_in_utf8() -> None:
    assert keys_of(["r-1", "ä" * 256]) == [b"r-1", "ä".encode() * 256]


@pytest.mark.parametrize("wrong", ["", "x" * 257, 7, None, b"bytes"])
def test_a_request_id_that_is_none_is_named_with_its_row(wrong: object) -> None:
    with pytest.raises(InvalidInputError, match=r"request ids = .*\$\[1\]"):
        keys_of(["right", wrong])  # type: ignore[list-item]


def test_a_request_id_without_a_utf8_form_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no UTF-8 form"):
        keys_of(["\ud800"])


@pytest.mark.parametrize("at", [5, np.int64(5), np.array(5), torch.tensor(5)])
def test_numpy_and_torch_integers_are_times_as_pythons_are(at: object) -> None:
    value = checked(at, Milliseconds, "at")
    assert value == 5
    assert type(value) is int


@pytest.mark.parametrize("at", [-1, 5.0, "5", True, 10**15])
def test_what_is_no_time_in_milliseconds_is_refused(at: object) -> None:
    with pytest.raises(InvalidInputError, match="at = "):
        checked(at, Milliseconds, "at")


def test_a_trace_context_comes_back_from_the_headers_it_went_into() -> None:
    assert traceparent_of(tuple(trace_headers(TRACE))) == TRACE
    assert trace_headers(None) == []
    assert traceparent_of(()) is None


@pytest.mark.parametrize("wrong", ["", "abc", TRACE.upper(), TRACE + "\n", TRACE[:-1]])
def test_a_trace_context_that_is_not_w3cs_is_refused_when_sent_and_none_when_read(wrong: str) -> None:
    with pytest.raises(InvalidInputError, match="traceparent"):
        trace_headers(wrong)
    assert traceparent_of((("traceparent", wrong.encode()),)) is None


def test_headers_of_others_are_passed_over() -> None:
    headers = (("other", TRACE.encode()), ("traceparent", b"\xff"), ("traceparent", TRACE.encode()))
    assert traceparent_of(headers) == TRACE
