"""The fast encoding of fused records gives the bytes of the plain one, whatever the names and numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from unittest.mock import patch

import jsonschema
import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble import compiled
from stream_ensemble.core.join.records import Cause, Status
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.kafka.encode import FusedFormat, FusedRows, plain
from stream_ensemble.kafka.encode_fast import fast
from stream_ensemble.messages import Calibration, Credit, CreditBlock, Fused, WeightsVersion

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "fused.schema.json").read_text())
shares = st.sampled_from([0.0, 0.1, 0.25])
BY = Calibration(confidence=(0.7, 0.9, 1.2, 1.6, 1 / 3), rest=1.1)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
numbers = st.floats(0, 1, allow_subnormal=True) | st.sampled_from([0.0, -0.0, 5e-324, 1e-7, 1.0, 0.1 + 0.2])
#: What a forecast may say too.
beyond = numbers | st.floats(-1e100, 1e100) | st.sampled_from([1e100, -1e100, 2.0**53 + 2, 1e22, 1e21, -1e-9])


@st.composite
def batches(draw: st.DrawFn) -> tuple[FusedRows, FusedFormat]:
    k, v, r = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    form = FusedFormat(
        members=tuple(draw(st.lists(names, min_size=k, max_size=k, unique=True))),
        topics=tuple(draw(st.lists(names, min_size=k, max_size=k))),
        classes=tuple(draw(st.lists(names, min_size=v, max_size=v, unique=True))),
        partition=draw(st.integers(0, 9)),
        config=draw(names),
        exclusive=draw(st.booleans()),
    )
    said = numbers if form.exclusive else beyond

    def array(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(draw(st.lists(said, min_size=size, max_size=size))).reshape(shape)

    masks = st.integers(0, 2**k - 1)
    awake = np.array(draw(st.lists(masks, min_size=r, max_size=r)), np.uint64)
    answered = awake | np.array(draw(st.lists(masks, min_size=r, max_size=r)), np.uint64)
    block = CreditBlock(algorithm="a", generation=0, n=1, members=form.members, values="AA==")
    rows = FusedRows(
        ids=[i.encode() for i in draw(st.lists(names, min_size=r, max_size=r))],
        status=np.array(draw(st.lists(st.sampled_from(list(Status)), min_size=r, max_size=r)), np.uint8),
        cause=np.array(draw(st.lists(st.sampled_from(list(Cause)), min_size=r, max_size=r)), np.uint8),
        at=np.array(draw(st.lists(st.integers(0, 2**41), min_size=r, max_size=r)), np.int64),
        outputs=array(r, v),
        components=array(r, k, v),
        offsets=np.array(draw(st.lists(st.integers(0, 2**62), min_size=r * k, max_size=r * k))).reshape(r, k),
        within=draw(st.none() | st.just(np.arange(r * k, dtype=np.int32).reshape(r, k))),
        weights=draw(st.sampled_from([array(r, k), np.repeat(array(1, k), r, axis=0), array(1, k)])),
        awake=awake,
        answered=answered,
        abstained=answered & ~awake,
        expected=np.full(r, 2**k - 1, np.uint64),
        segment=draw(st.none() | names),
        version=WeightsVersion(generation=0, n=draw(st.integers(0, 2**40)), digest="d"),
        degraded=draw(st.none() | st.just("redis-away")),
        credit=draw(
            st.none() | st.sampled_from([Credit(everywhere="e"), Credit(everywhere="e", calibration=BY)])
        ),
        members=draw(st.none() | st.builds(Membership, masks, st.just(()) | st.tuples(*[shares] * k))),
        blocks=draw(st.none() | st.just({"e": block})),
        traces=draw(st.dictionaries(st.integers(0, r - 1), st.just(b"00-1-2-01"))),
    )
    return rows, form


def same(some: list[bytes], others: list[bytes]) -> bool:
    """The same bytes, but for the sign of an exponent, which from 1e16 on one of them writes."""
    return [re.sub(rb"e\+", b"e", value) for value in some] == [
        re.sub(rb"e\+", b"e", value) for value in others
    ]


@given(batches())
def test_fast_is_plain(batch: tuple[FusedRows, FusedFormat]) -> None:
    rows, form = batch
    assert same(fast(rows, form), plain(rows, form))
    assert same(fast(rows, form), plain(rows, form)), "with templates it knows"


@given(batches())
def test_it_is_without_the_compiled_kernel_too(batch: tuple[FusedRows, FusedFormat]) -> None:
    rows, form = batch
    assert compiled.AVAILABLE, "build the kernels: make venv"
    with patch.object(compiled, "AVAILABLE", new=False):
        assert same(fast(rows, form), plain(rows, form))


@given(batches())
def test_what_is_written_reads_back_and_fits_the_schema(batch: tuple[FusedRows, FusedFormat]) -> None:
    rows, form = batch
    for r, value in enumerate(fast(rows, form)):
        jsonschema.validate(json.loads(value), SCHEMA)
        record = msgspec.json.decode(value, type=Fused)
        assert record.request_id.encode() == rows.ids[r]
        assert record.status == Status(rows.status[r]).name.lower()
        assert (record.label is None) == (record.status == "expired" or not form.exclusive)
        awaited = rows.members.awaited if rows.members else 2 ** len(form.members) - 1
        awake = [name for k, name in enumerate(form.members) if int(rows.awake[r]) >> k & 1]
        in_shadow = [name for name in awake if not awaited >> form.members.index(name) & 1]
        assert list(record.shadow or ()) == in_shadow
        assert set(record.warm or ()) <= set(awake)
        for k, member in enumerate(form.members):
            if int(rows.awake[r]) >> k & 1:
                assert record.components[member] == rows.components[r, k].tolist()
                within = 0 if rows.within is None else int(rows.within[r, k])
                assert record.sources[member][2:] == (rows.offsets[r, k], within)
            else:
                assert member not in record.components
