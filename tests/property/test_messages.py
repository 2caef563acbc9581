"""Code and JSON Schema agree about every message: what is valid, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from stream_ensemble import messages as m
from stream_ensemble import schemas

VALIDATORS = {
    name: Draft202012Validator(json.loads((schemas.FOLDER / f"{name}.schema.json").read_text()))
    for name in schemas.TYPES
}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
name = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
whole = st.integers(0, 2**53)
number = st.floats(allow_nan=False, allow_infinity=False)
numbers = st.lists(number, max_size=5)
times = st.integers(0, 253_402_300_799_999)
small = st.integers(0, 2**31 - 1)
sources = st.tuples(name, small, whole, small)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def head(kind: str) -> dict[str, st.SearchStrategy[Any]]:
    return {"version": st.just(1), "kind": st.just(kind)}


answers = st.one_of(
    st.builds(lambda output: {"output": output}, numbers),
    st.just({"abstain": True}),
    st.builds(lambda error: {"error": error}, text),
)
features = st.recursive(st.none() | st.booleans() | number | text, lambda inner: st.lists(inner, max_size=3))
versions = st.builds(m.WeightsVersion, generation=small, n=whole, digest=text, pin=optional(whole))
blocks = st.builds(
    m.CreditBlock,
    algorithm=name,
    generation=small,
    n=whole,
    members=st.lists(name, max_size=3).map(tuple),
    values=text,
)
credits_ = st.builds(
    m.Credit,
    everywhere=name,
    segment=optional(name),
    blocks=optional(st.dictionaries(name, blocks, max_size=2)),
)

control_numbers = st.integers(1, 2**53)
control_ids = st.text("0123456789abcdef", min_size=1, max_size=64)
authorities = st.sampled_from(["operator", "guardrail", "admission"])
pinned = st.builds(
    m.PinnedWeights,
    weights=st.dictionaries(name, st.floats(0, 1e300), max_size=3),
    credit=optional(blocks),
)
pins = st.builds(
    m.Pin,
    number=control_numbers,
    id=control_ids,
    by=authorities,
    segment=optional(name),
    at=optional(times),
    pinned=optional(pinned),
)

warm = {"share": st.floats(0, 1, exclude_max=True), "labels": st.floats(0, 1e300)}
admissions = st.builds(
    m.Admission,
    member=name,
    number=control_numbers,
    id=control_ids,
    by=authorities,
    at=optional(times),
    admitted=st.booleans(),
    generation=st.integers(0, 2**31 - 1),
    **warm,
)

MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "request": st.builds(
        m.Request,
        **head("request"),
        request_id=name,
        at=optional(times),
        segment=optional(name),
        members=optional(st.lists(name, max_size=3)),
        deadline_ms=optional(st.integers(1, 86_400_000)),
        features=st.just(msgspec.UNSET) | features.map(lambda value: msgspec.Raw(msgspec.json.encode(value))),
    ),
    "prediction": st.builds(
        lambda fields, answer: m.Prediction(**fields, **answer),
        st.fixed_dictionaries(
            head("prediction")
            | {"request_id": name, "member": name, "at": optional(times), "segment": optional(name)}
        ),
        answers,
    ),
    "predictions": st.builds(
        m.PredictionArrays,
        **head("predictions"),
        member=name,
        request_ids=st.lists(name, min_size=1, max_size=3),
        outputs=st.lists(optional(numbers), max_size=3),
        ats=optional(st.lists(optional(times), max_size=3)),
        answers=optional(st.lists(st.sampled_from(["output", "abstain", "error"]), max_size=3)),
        errors=optional(st.lists(optional(text), max_size=3)),
        segments=optional(st.lists(optional(name), max_size=3)),
        traceparents=optional(st.lists(optional(text), max_size=3)),
    ),
    "fused": st.builds(
        m.Fused,
        **head("fused"),
        request_id=name,
        status=st.sampled_from(["complete", "partial", "fallback", "expired"]),
        cause=optional(st.sampled_from(["deadline", "silent", "unreadable", "capacity", "early", "quorum"])),
        at=times,
        segment=optional(name),
        output=optional(numbers),
        label=optional(name),
        components=st.dictionaries(name, numbers, max_size=3),
        sources=st.dictionaries(name, sources, max_size=3),
        asleep=optional(
            st.dictionaries(name, st.sampled_from(["missing", "abstain", "error", "unneeded"]), max_size=3)
        ),
        weights=optional(st.dictionaries(name, number, max_size=3)),
        weights_version=versions,
        degraded=optional(name),
        credit=optional(credits_),
        shadow=optional(st.lists(text, max_size=3).map(tuple)),
        warm=optional(st.dictionaries(text, number, max_size=3)),
        config=text,
    ),
    "feedback": st.builds(
        m.Feedback,
        **head("feedback"),
        request_id=name,
        label=st.integers(0, 2**31 - 1) | name,
        at=optional(times),
        revision=whole,
        weight=st.floats(0, 1e6, exclude_min=True),
    ),
    "feedbacks": st.builds(
        m.FeedbackArrays,
        **head("feedbacks"),
        request_ids=st.lists(name, min_size=1, max_size=3),
        labels=st.lists(st.integers(0, 2**31 - 1) | name, max_size=3),
        ats=optional(st.lists(optional(times), max_size=3)),
        revisions=optional(st.lists(whole, max_size=3)),
        weights=optional(st.lists(st.floats(0, 1e6, exclude_min=True), max_size=3)),
    ),
    "part-feedback": st.builds(
        m.PartFeedback,
        **head("feedback"),
        request_id=name,
        part=st.integers(0, 2**31 - 1) | name,
        label=st.booleans() | st.floats(allow_nan=False, allow_infinity=False),
        at=optional(times),
        revision=whole,
        weight=st.floats(0, 1e6, exclude_min=True),
    ),
    "part-feedbacks": st.builds(
        m.PartFeedbackArrays,
        **head("feedbacks"),
        request_ids=st.lists(name, min_size=1, max_size=3),
        parts=st.lists(st.integers(0, 2**31 - 1) | name, max_size=3),
        labels=st.lists(st.booleans() | st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        ats=optional(st.lists(optional(times), max_size=3)),
        revisions=optional(st.lists(whole, max_size=3)),
        weights=optional(st.lists(st.floats(0, 1e6, exclude_min=True), max_size=3)),
    ),
    "control": st.builds(
        m.Control,
        **head("control"),
        number=control_numbers,
        id=control_ids,
        action=st.sampled_from(["pin", "unpin", "reset", "admit", "retire"]),
        by=authorities,
        at=optional(times),
        segment=optional(name),
        pinned=optional(pinned),
        generation=optional(st.integers(0, 2**31 - 1)),
        member=optional(name),
        **warm,
    ),
    "trial": st.builds(
        m.Trial,
        **head("trial"),
        request_id=name,
        member=name,
        output=numbers,
        appended=times,
        source=sources,
    ),
    "controls": st.builds(
        m.Controls,
        **head("controls"),
        partition=small,
        generation=small,
        epoch=whole,
        sequence=whole,
        state=st.builds(
            m.ControlState,
            number=st.integers(0, 2**53),
            id=text,
            pins=st.lists(pins, max_size=3).map(tuple),
            members=st.lists(admissions, max_size=3).map(tuple),
        ),
    ),
    "weights": st.builds(
        m.Weights,
        **head("weights"),
        task=name,
        segment=optional(name),
        partition=small,
        generation=small,
        epoch=whole,
        sequence=whole,
        algorithm=name,
        members=st.lists(name, max_size=3).map(tuple),
        n=whole,
        clock=st.floats(0, 1e300),
        sums=st.dictionaries(name, text, max_size=3),
        maxima=st.dictionaries(name, text, max_size=3),
    ),
    "applied": st.builds(
        m.Applied,
        **head("applied"),
        request_id=name,
        state=st.sampled_from(["learned", "parked"]),
        label=st.integers(0, 2**31 - 1) | name,
        part=optional(name),
        revision=whole,
        weight=st.floats(0, 1e6, exclude_min=True),
        appended=times,
        origin=sources,
        generation=small,
    ),
    "dead-letter-headers": st.builds(
        m.DeadLetter,
        reason=text,
        detail=text,
        topic=text,
        partition=st.integers(0, 1000),
        offset=whole,
        row=st.integers(0, 1000),
        appended=times,
    ),
    "forwarded-headers": st.builds(
        m.Forwarded,
        topic=text,
        partition=st.integers(0, 1000),
        offset=whole,
        row=st.integers(0, 1000),
        appended=times,
    ),
}


def test_every_schema_has_its_messages_here() -> None:
    assert MESSAGES.keys() == schemas.TYPES.keys()


@pytest.mark.parametrize("kind", MESSAGES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_valid_message_fits_the_schema_and_is_read_back_equal(kind: str, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    encoded = msgspec.json.encode(message)
    VALIDATORS[kind].validate(json.loads(encoded))
    decoded = msgspec.json.decode(encoded, type=type(message))
    assert msgspec.json.encode(decoded) == encoded
    assert decoded == message or isinstance(message, m.Request)  # raw features compare by identity


@pytest.mark.parametrize("kind", MESSAGES)
@settings(max_examples=30)
@given(data=st.data())
def test_an_unknown_field_is_ignored_and_an_absent_optional_one_may_be_null(
    kind: str, data: st.DataObject
) -> None:
    message = data.draw(MESSAGES[kind])
    tree = json.loads(msgspec.json.encode(message))
    absent = dict.fromkeys(optional_fields(kind) - tree.keys())
    newer = tree | absent | {"a field of version 2": data.draw(text)}
    VALIDATORS[kind].validate(newer)
    decoded = msgspec.json.decode(json.dumps(newer), type=type(message))
    assert json.loads(msgspec.json.encode(decoded)) == tree


def optional_fields(kind: str) -> set[str]:
    """Fields that may be null according to the schema."""
    properties = VALIDATORS[kind].schema["properties"]
    return {field for field, said in properties.items() if {"type": "null"} in said.get("anyOf", [])}


def breakages(kind: str, tree: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of the schema made wrong in every way its schema rules out."""
    schema = VALIDATORS[kind].schema
    for field in schema["required"]:
        yield f"without {field}", {key: value for key, value in tree.items() if key != field}
        yield f"{field} null", tree | {field: None}
    for field, said in schema["properties"].items():
        for wrong in wrong_values(said):
            yield f"{field} = {wrong!r:.60}", tree | {field: wrong}


def wrong_values(said: dict[str, Any]) -> list[Any]:
    """Values that none of the alternatives of a field's schema takes."""
    alternatives = [part for part in said.get("anyOf", [said]) if part.get("type") != "null"]
    if {} in alternatives:
        return []
    tried = [True, -1, 2**70, 0.5, "", "no such word", "x" * 300, [[]], [True], {"": []}, {"": None}]
    validators = [Draft202012Validator(part | {"$defs": {}}) for part in alternatives if "$ref" not in part]
    return [value for value in tried if not any(validator.is_valid(value) for validator in validators)]


@pytest.mark.parametrize("kind", MESSAGES)
@settings(max_examples=5)
@given(data=st.data())
def test_a_broken_message_is_refused_by_code_and_schema_alike(kind: str, data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    tree = json.loads(msgspec.json.encode(message))
    tried = 0
    for what, broken in breakages(kind, tree):
        tried += 1
        assert not VALIDATORS[kind].is_valid(broken), f"the schema takes {what}"
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(json.dumps(broken), type=type(message))
            pytest.fail(f"the code takes {what}")
    assert tried > 10


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"output": [1.0], "abstain": True},
        {"output": [1.0], "error": "x"},
        {"abstain": False},
        {"output": None},
    ],
)
def test_the_schema_refuses_a_prediction_without_exactly_one_answer(answer: dict[str, Any]) -> None:
    tree = {"version": 1, "kind": "prediction", "request_id": "1", "member": "forest"}
    VALIDATORS["prediction"].validate(tree | {"output": [1.0]})
    assert not VALIDATORS["prediction"].is_valid(tree | answer)
