"""The compiled table of slots answers as the dictionary does, whatever comes and goes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.compiled.slots import SlotTable
from stream_ensemble.core.join.slot_table import PlainSlotTable, slot_table

_IDS = st.one_of(st.sampled_from([b"", b"a", b"b", b"\0", b"a\0"]), st.binary(max_size=3))
_STEPS = st.lists(
    st.tuples(st.sampled_from(["fill", "forget", "get", "number"]), st.lists(_IDS, max_size=80)), max_size=40
)


def _both(table: SlotTable | PlainSlotTable, step: str, ids: list[bytes]) -> object:
    # Other objects with the same bytes, as they come from other records.
    ids = [bytes(bytearray(one)) for one in ids]
    if step == "fill":
        slots = np.empty(len(ids), np.int64)
        table.fill(ids, slots)
        return slots.tolist()
    if step == "forget":
        return table.forget(ids)
    return [table.get(one) if step == "get" else table[one] for one in ids]


@given(_STEPS)
@settings(max_examples=300, deadline=None)
def test_it_answers_as_the_dictionary_does(steps: list[tuple[str, list[bytes]]]) -> None:
    kernel, plain = SlotTable(), PlainSlotTable()
    for step, ids in steps:
        assert _both(kernel, step, ids) == _both(plain, step, ids)
        assert len(kernel) == len(plain)
        assert sorted(kernel.items()) == sorted(plain.items())


def test_thousands_come_and_go_out_of_order() -> None:
    # Several times its first capacity, so that it grows, and full stretches are closed up where some leave.
    rng = np.random.default_rng(5)
    kernel, plain = SlotTable(), PlainSlotTable()
    assert isinstance(slot_table(), SlotTable), "build the kernels: make venv"
    for turn in range(60):
        ids = [b"%d" % number for number in rng.integers(0, 12_000, 2_000)]
        step = "forget" if turn % 3 == 2 else "fill"
        assert _both(kernel, step, ids) == _both(plain, step, ids)
    assert dict(kernel.items()) == dict(plain)


def test_it_keeps_an_id_as_long_as_it_knows_it() -> None:
    table, request_id = SlotTable(), bytes(bytearray(b"kept for a while"))
    before = sys.getrefcount(request_id)
    table.fill([request_id, request_id], np.empty(2, np.int64))
    assert sys.getrefcount(request_id) == before + 1
    table.forget([request_id, request_id])
    assert sys.getrefcount(request_id) == before
    assert table[request_id] == 1
    del table
    assert sys.getrefcount(request_id) == before


def test_what_is_no_id_is_refused_and_nothing_is_lost() -> None:
    table, slots = SlotTable(), np.empty(2, np.int64)
    with pytest.raises(TypeError, match="a request id is bytes here"):
        table.fill([b"good", "text"], slots)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="1 ids, room for 2 slots"):
        table.fill([b"good"], slots)
    with pytest.raises(TypeError):
        table.get(None)  # type: ignore[arg-type]
    table.fill([b"good", b"better"], slots)
    assert sorted(table.items()) == [(b"better", 1), (b"good", 0)]
