"""Columnar fused records say exactly what the same records say as JSON."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.columnar import fuseds
from stream_ensemble.columnar.fuseds import FusedBatch
from stream_ensemble.core.join.records import Status
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.encode import CAUSE, STATUS, FusedFormat, FusedRows, asleep_in, members_in, plain
from stream_ensemble.messages import Fused
from tests.property.test_fused_encoding import batches


def alike(rows: FusedRows) -> list[list[int]]:
    """Places of the rows that may share a head."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    masks = (rows.status, rows.cause, rows.awake, rows.answered, rows.abstained, rows.expected)
    for place in range(len(rows)):
        groups[tuple(int(column[place]) for column in masks)].append(place)
    return list(groups.values())


def columns(rows: FusedRows, form: FusedFormat, places: list[int]) -> FusedBatch:
    """Rows that are alike, as a batch."""
    first = places[0]
    status = Status(rows.status[first])
    awake = members_in(rows.awake[first], form)
    pooled = status in (Status.COMPLETE, Status.PARTIAL)
    credit = rows.credit if pooled else None
    weights = rows.weights[places] if len(rows.weights) == len(rows) > 1 else rows.weights[0]
    components = rows.components[places][:, awake]
    coarse = components.astype(np.float32)
    head = fuseds.shared(
        status=STATUS[status],  # type: ignore[arg-type]
        cause=CAUSE[rows.cause[first]],  # type: ignore[index, arg-type]
        segment=rows.segment,
        members=tuple(form.members[k] for k in awake),
        topics=tuple(form.topics[k] for k in awake),
        partition=form.partition,
        classes=form.classes,
        asleep=asleep_in(rows, form, first) or None,
        weights_version=rows.version,
        degraded=rows.degraded,
        credit=None if credit is None else msgspec.structs.replace(credit, blocks=None),
        config=form.config,
    )
    return FusedBatch(
        head,
        [rows.ids[place] for place in places],
        rows.at[places],
        None if status == Status.EXPIRED else rows.outputs[places],
        coarse if (coarse == components).all() else components,
        rows.offsets[places][:, awake],
        None if rows.within is None else rows.within[places][:, awake],
        weights[..., awake] if pooled else None,
        blocks=None if credit is None else credit.blocks,
    )


@given(batches(), st.data())
def test_columns_are_read_back_as_the_records_they_would_be_alone(
    batch: tuple[FusedRows, FusedFormat], data: st.DataObject
) -> None:
    rows, form = batch
    expected = [msgspec.json.decode(value, type=Fused) for value in plain(rows, form)]
    for places in alike(rows):
        packed = columns(rows, form, places)
        packed.traces = data.draw(st.dictionaries(st.integers(0, len(places) - 1), st.just(b"00-1-2-01")))
        value = fuseds.pack(packed)
        header = None if packed.blocks is None else fuseds.pack_blocks(packed.blocks)
        back = fuseds.unpack(value, header)
        found = fuseds.records(back, Fused)
        for place in places[1:]:
            if expected[place].credit is not None:
                expected[place].credit = msgspec.structs.replace(expected[place].credit, blocks=None)
        assert [msgspec.json.encode(each) for each in found] == [
            msgspec.json.encode(expected[place]) for place in places
        ]
        assert back.traces == packed.traces
        assert fuseds.pack(back) == value


@given(batches(), st.data())
def test_damaged_columns_are_read_or_refused(
    batch: tuple[FusedRows, FusedFormat], data: st.DataObject
) -> None:
    rows, form = batch
    value = bytearray(fuseds.pack(columns(rows, form, alike(rows)[0])))
    for _ in range(3):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    try:
        fuseds.records(fuseds.unpack(bytes(value)), Fused)
    except RecordError as refused:
        assert refused.reason and refused.detail


def test_an_answer_without_an_output_is_refused() -> None:
    batch = one()
    batch.outputs = None
    with pytest.raises(RecordError, match="missing-field: no column output"):
        fuseds.unpack(fuseds.pack(batch))


def test_blocks_that_cannot_be_read_are_refused() -> None:
    value = fuseds.pack(one())
    with pytest.raises(RecordError, match="not-json"):
        fuseds.unpack(value, b"{")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"members": ("a", "b")}, "expected 2 of each"),
        ({"classes": ("x",)}, "column output: 2 numbers a row, expected 1"),
        ({"classes": ()}, "wrong-field: .*classes"),
    ],
)
def test_a_head_that_does_not_fit_its_columns_is_refused(wrong: dict[str, object], said: str) -> None:
    batch = one()
    batch.head = msgspec.structs.replace(batch.head, **wrong)
    with pytest.raises(RecordError, match=said):
        fuseds.unpack(fuseds.pack(batch))


def one() -> FusedBatch:
    """One complete record of one member and two classes."""
    head = fuseds.shared(
        status="complete", cause=None, segment=None, members=("a",), topics=("t",), partition=0,
        classes=("x", "y"), asleep=None, weights_version={"generation": 0, "n": 0, "digest": "d"},
        degraded=None, credit=None, config="c",
    )  # type: ignore[arg-type]  # fmt: skip
    return FusedBatch(
        head,
        [b"r"],
        np.array([5]),
        np.array([[0.5, 0.5]]),
        np.array([[[0.5, 0.5]]]),
        np.array([[1]]),
        None,
        np.ones(1),
    )
