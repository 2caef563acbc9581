"""Fused records off the topic: single and columnar ones leave the same behind, and so does a refill."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.core.labels.answers import credited
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import take_labels
from stream_ensemble.core.labels.records import Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Row
from stream_ensemble.learner import answers
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_FORMAT,
    Credit,
    Fused,
    WeightsVersion,
)
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore

RULES = Rules(Classes(("x", "y", "z")), 1000, 1000)
MEMBERS = ("a", "b")
DIGEST, BLOCK = credit_block.encode("ml_poly", 3, 0, MEMBERS, np.array([1.0, 0.5]))
COMPONENTS = np.array([[[0.1, 0.2, 0.7], [1 / 3, 1 / 3, 1 / 3]], [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]])
FORM = (HEADER_FORMAT, FORMAT_COLUMNS)
CARRIES = (HEADER_CREDIT, fuseds.pack_blocks({DIGEST: BLOCK}))


def batch(**more: Any) -> FusedBatch:
    """Two answers of both members; ``more`` is said of both."""
    head = fuseds.shared(
        status="complete",
        cause=None,
        segment=more.get("segment", "north"),
        members=more.get("members", MEMBERS),
        topics=more.get("members", MEMBERS),
        partition=0,
        classes=("x", "y", "z"),
        asleep=None,
        weights_version=WeightsVersion(generation=3, n=0, digest="d"),
        degraded=None,
        credit=more.get("credit", Credit(everywhere=DIGEST)),
        config="c",
    )
    components = more.get("components", COMPONENTS)
    offsets = np.zeros((2, len(head.members)), np.int64)
    return FusedBatch(head, [b"r0", "rü".encode()], np.arange(2), np.full((2, 3), 1 / 3), components, offsets)


def record(*headers: tuple[str, bytes], **more: Any) -> Row:
    return Row(None, fuseds.pack(batch(**more)), [FORM, *headers])


def label(request_id: str, appended: int = 200) -> Feedback:
    return Feedback(request_id, "y", 0, 1.0, appended, ("feedback", 0, 0, 0), bytes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_is_kept_as_what_the_same_record_alone_says_to_the_bit(dtype: type) -> None:
    rows = batch(components=COMPONENTS.astype(dtype))
    changes = Changes(MemoryLabelStore())
    answers.keep(changes, RULES, Row(None, fuseds.pack(rows), [FORM]), 7, 100)
    for alone in fuseds.records(rows, Fused):
        answer = changes.answers[alone.request_id]
        assert (answer.offset, answer.appended) == (7, 100)
        found = credited(answer)
        assert found.components == alone.components
        assert (found.segment, found.credit) == ("north", Credit(everywhere=DIGEST))


def test_the_blocks_in_the_header_serve_every_row_and_other_records() -> None:
    changes = Changes(MemoryLabelStore())
    assert answers.take(changes, RULES, record(CARRIES), 7, 100) == ()
    changes.answers["single"] = changes.answers["r0"]
    charges = take_labels(changes, RULES, [label("r0"), label("rü"), label("single")], 100)
    assert [charge.components for charge in charges[:2]] == [
        dict(zip(MEMBERS, row, strict=True)) for row in COMPONENTS.tolist()
    ]
    assert [(charge.segment, charge.label, charge.first) for charge in charges] == [("north", 1, True)] * 3
    assert changes.blocks == {DIGEST: (100, BLOCK)}
    verdict = changes.verdict("rü")
    assert verdict is not None
    assert (verdict.learned, verdict.generation) == (True, 3)


@pytest.mark.parametrize("flushed", [False, True])
def test_labels_that_waited_for_rows_are_learned_when_these_come(flushed: bool) -> None:
    store = MemoryLabelStore()
    changes = Changes(store)
    take_labels(changes, RULES, [label("rü", 50), label("never", 50)], 0)
    if flushed:
        store.write(changes, Position("me", 0, 0, 0))
        changes = Changes(store)
    (charge,) = answers.take(changes, RULES, record(CARRIES), 7, 100)
    assert charge.components == {"a": [0.5, 0.25, 0.25], "b": [0.0, 1.0, 0.0]}
    assert changes.parked_count() == 1


def test_a_refill_keeps_the_same_and_teaches_nothing() -> None:
    taken, kept = Changes(MemoryLabelStore()), Changes(MemoryLabelStore())
    take_labels(kept, RULES, [label("r0", 50)], 0)
    answers.take(taken, RULES, record(CARRIES), 7, 100)
    answers.keep(kept, RULES, record(CARRIES), 7, 100)
    assert (kept.answers, kept.blocks) == (taken.answers, taken.blocks)
    assert kept.parked_count() == 1


def test_a_block_that_is_not_what_its_digest_names_is_not_used() -> None:
    changes = Changes(MemoryLabelStore())
    wrong = (HEADER_CREDIT, fuseds.pack_blocks({DIGEST: msgspec.structs.replace(BLOCK, n=9)}))
    answers.take(changes, RULES, record(wrong), 7, 100)
    assert take_labels(changes, RULES, [label("r0")], 100) == []
    assert changes.counts == {"credit-damaged": 1, "dead:credit-not-found": 1}


#: What the store keeps may begin so; on the topic it is somebody else's.
FORGED = Changes(MemoryLabelStore())
answers.take(FORGED, RULES, record(CARRIES), 7, 100)


@pytest.mark.parametrize("labelled_first", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        b"\xc1",
        b"\xc1\x00\x00\x00\x01\x94",
        b"\xc1\xff\xff\xff\xff",
        FORGED.answers["r0"].value,
        msgspec.msgpack.encode({"components": {"a": [math.nan] * 3, "b": [0.5, 0.25, 0.25]}}),
    ],
    ids=["mark", "short head", "long head", "kept", "not a number"],
)
def test_what_only_the_store_writes_is_no_fused_record_on_the_topic(
    value: bytes, labelled_first: bool
) -> None:
    taken, kept = Changes(MemoryLabelStore()), Changes(MemoryLabelStore())
    if labelled_first:
        assert take_labels(taken, RULES, [label("r", 50)], 0) == []
    assert not answers.take(taken, RULES, Row(b"r", value, []), 8, 100)
    answers.keep(kept, RULES, Row(b"r", value, []), 8, 100)
    assert kept.answers == taken.answers
    if not labelled_first:
        assert take_labels(taken, RULES, [label("r", 150)], 100) == []
    assert taken.counts["dead:fused-unreadable"] == 1


def test_answers_without_weights_or_members_teach_nothing() -> None:
    changes = Changes(MemoryLabelStore())
    nobody = {"members": (), "components": np.empty((2, 0, 3)), "credit": None, "segment": None}
    answers.take(changes, RULES, record(**nobody), 7, 100)
    assert take_labels(changes, RULES, [label("r0")], 100) == []
    assert changes.counts == {"taught-nothing": 1}


def test_rows_of_another_number_of_classes_are_refused_with_their_labels_only() -> None:
    changes = Changes(MemoryLabelStore())
    answers.take(changes, Rules(Classes(("x", "y")), 1000, 1000), record(CARRIES), 7, 100)
    assert take_labels(changes, Rules(Classes(("x", "y")), 1000, 1000), [label("r0")], 100) == []
    assert changes.counts == {"dead:fused-unreadable": 1}


WRONG = np.array(COMPONENTS)
WRONG[1, 0, 2] = math.nan


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (record()._replace(value=record().value[:-1]), "damaged"),  # type: ignore[index]
        (record()._replace(value=None), "empty-value"),
        (record((HEADER_CREDIT, b"{")), "not-json"),
        (record()._replace(headers=[(HEADER_FORMAT, FORMAT_ARRAYS)]), "wrong-header"),
        (record(components=WRONG), "wrong-field"),
        (Row(None, b"{}", []), "null-key"),
        (Row(b"r", None, []), "empty-value"),
        (Row(b"\xff", b"{}", []), "wrong-field"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_and_leaves_nothing_behind(broken: Row, reason: str) -> None:
    changes = Changes(MemoryLabelStore())
    with pytest.raises(RecordError) as refused:
        answers.take(changes, RULES, broken, 7, 100)
    assert refused.value.reason == reason
    with pytest.raises(RecordError):
        answers.keep(changes, RULES, broken, 7, 100)
    assert (changes.answers, changes.blocks) == ({}, {})
