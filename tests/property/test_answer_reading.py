"""Fused records read many at a time are kept, to the last bit, as one by one the plain way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stream_ensemble.compiled.reading import AnswerKernel
from stream_ensemble.core.labels.answers import begin_kept
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.matching import Charge, take_labels
from stream_ensemble.core.labels.records import Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.learner import answers
from stream_ensemble.messages import HEADER_FORMAT, HEADER_TRACE
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from tests.property.json_values import json_values

RULES = Rules(Classes(("x", "y")), 10**12, 10**12)
DIGEST, BLOCK = credit_block.encode("ml_poly", 3, 7, ("a", "b"), np.array([1.0, 0.5]))
IDS = ["r0", "r1", "rü", "another"]

numbers = (
    st.floats(0, 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0, 1, -0.0, 10**25, 5e-324, 0.1 + 0.2])
)
outputs = st.lists(numbers, max_size=3) | st.lists(st.floats(0, 1), min_size=2, max_size=2)
members = st.sampled_from(["a", "b", "ü", "", 'quoted"', "long" * 40])
kinds_of_credit = st.sampled_from(
    [
        {"everywhere": DIGEST},
        {"everywhere": DIGEST, "segment": "other"},
        {"everywhere": DIGEST, "blocks": {DIGEST: msgspec.to_builtins(BLOCK)}},
        {"everywhere": DIGEST, "blocks": {}},
        {"everywhere": DIGEST, "calibration": {"confidence": [1, 1, 1, 1, 1.5], "rest": 0.5}},
        {"everywhere": 3},
        {},
        None,
    ]
)
others = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(max_size=3), each, max_size=2),
    max_leaves=5,
)
fields = st.fixed_dictionaries(
    {"components": st.dictionaries(members, outputs, max_size=3)},
    optional={
        "segment": st.sampled_from(["north", "süd", "", None, "x" * 129, 7]),
        "credit": kinds_of_credit,
        "shadow": st.sampled_from([[], ["b"], None, ["b", 3]]),
        "warm": st.sampled_from([{}, {"a": 0.5}, None]),
        "request_id": st.sampled_from(IDS),
        "sources": others,
        "weights": others,
        "label": others,
    },
)


values = json_values(fields, sound=6)


keys = st.sampled_from([name.encode() for name in IDS] * 4 + [b"", b"\xff", None])  # type: ignore[list-item]
headers = st.sampled_from([[], [], [], [(HEADER_TRACE, b"00-1")], [(HEADER_FORMAT, b"strange")]])
rows = st.builds(Row, keys, values, headers)


class Outcome(NamedTuple):
    """All that taking records in led to."""

    answers: Any
    blocks: Any
    verdicts: Any
    counts: Any
    charges: Sequence[Charge]
    refused: list[tuple[int, int, str]]


def _started() -> tuple[Changes, list[Refused]]:
    """Some labels wait already."""
    changes = Changes(MemoryLabelStore())
    waiting = [
        Feedback(name, 1, 0, 1.0, 50, ("feedback", 0, place, 0), lambda: b"")
        for place, name in enumerate(IDS[:2])
    ]
    take_labels(changes, RULES, waiting, 0)
    return changes, []


def _outcome(changes: Changes, charges: Sequence[Charge], refused: list[Refused]) -> Outcome:
    said = [(each.offset, each.appended, str(each.error)) for each in refused]
    told = [one._replace(components={name: list(x) for name, x in one.components.items()}) for one in charges]
    return Outcome(changes.answers, changes.blocks, changes.verdicts, changes.counts, told, said)


def _columns(records: list[Row]) -> Columns:
    count = np.arange(len(records), dtype=np.int64)
    return Columns(list(records), 10 + 2 * count, 100 + count)


@given(st.lists(rows, max_size=8))
@example([Row(b"r0", b'{"components":{},"credit":{"everywhere":"18c124d61f7114e8","blocks":{}}}', [])])
def test_many_at_a_time_are_taken_as_one_by_one(records: list[Row]) -> None:
    columns = _columns(records)
    one, one_refused = _started()
    charges: list[Charge] = []
    for record, offset, appended in zip(
        records, columns.offsets.tolist(), columns.appended.tolist(), strict=True
    ):
        try:
            charges += answers.take(one, RULES, record, offset, appended)
        except RecordError as error:
            one_refused.append(Refused(record, offset, appended, error))
    many, many_refused = _started()
    found = answers.take_all(many, RULES, columns, many_refused.append)
    assert _outcome(many, found, many_refused) == _outcome(one, charges, one_refused)
    kept, kept_refused = _started()
    answers.keep_all(kept, RULES, columns, kept_refused.append)
    assert kept.answers == one.answers


@given(values)
@example(b'{"components":{"a":[0.5,0.5]},"x":' + b"[" * 40 + b"]" * 40 + b"}")
@example(b'{"components":{"a":[0.5,0.5]},"x":"\xff"}')
@example(b'{"components":{"a":[0.5],"a":[0.7]}}')
@example(b'{"components":{"a":[1e999]}}')
@example(b'{"components":{"a":[1]},"x":01}')
@example(b'{"components":{"a":[' + b",".join([b"0.5"] * 1025) + b"]}}")
def test_what_the_kernel_keeps_is_what_is_kept_the_plain_way(value: bytes | None) -> None:
    [name], [kept] = AnswerKernel(begin_kept, 8).read([b"r"], [value], *RULES.domain.bounds)
    assert (name is None) == (kept is None)
    if kept is not None:
        assert value is not None
        changes = Changes(MemoryLabelStore())
        answers.keep(changes, RULES, Row(b"r", value, []), 3, 4)
        assert changes.answers["r"] == (3, 4, kept)


def test_what_a_fuser_writes_is_read_by_the_kernel() -> None:
    kernel = AnswerKernel(begin_kept, 2)
    for digest in ("d0", "d1", "d2", "d0"):
        message = {
            "version": 1,
            "kind": "fused",
            "request_id": "rü",
            "status": "complete",
            "output": [0.25, 0.75],
            "label": "süß",
            "components": {"a": [0.25, 0.75], "ü": [0.5, 0.5]},
            "sources": {"a": ["t", 0, 17, 0]},
            "weights": {"a": 0.5, "ü": 0.5},
            "weights_version": {"generation": 0, "n": 3, "digest": "0f"},
            "credit": {"everywhere": digest},
            "segment": "north",
            "asleep": {"c": "missing"},
        }
        value = msgspec.json.encode(message)
        names, [kept] = kernel.read(["rü".encode()], [value], *RULES.domain.bounds)
        changes = Changes(MemoryLabelStore())
        answers.keep(changes, RULES, Row(b"r", value, []), 3, 4)
        assert names == ["rü"]
        assert kept == changes.answers["r"].value
    nothing = kernel.read([None, b"", b"\xff", b"r"], [value, value, value, None], *RULES.domain.bounds)
    assert nothing == ([None] * 4, [None] * 4)
