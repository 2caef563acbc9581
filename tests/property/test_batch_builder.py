"""A batch has the bytes aiokafka would give it, whoever writes it."""

from __future__ import annotations

import os
import time

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import calc_crc32c
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.compiled import records as kernel
from stream_ensemble.kafka.batch_builder import CompiledBuilder, PlainBuilder
from stream_ensemble.kafka.raw_batches import crc32c, is_intact

texts = st.none() | st.binary(max_size=200)
headers = st.lists(st.tuples(st.text(max_size=8), texts), max_size=3)
calls = st.lists(
    st.tuples(
        st.lists(st.tuples(texts, texts, headers), max_size=80),
        st.booleans(),
        st.integers(min_value=-70_000, max_value=70_000),
    ),
    min_size=1,
    max_size=4,
)


def _filled(builder: CompiledBuilder | PlainBuilder, made: list, clock: pytest.MonkeyPatch) -> list[int]:
    taken = []
    now = 1_700_000_000.0
    for rows, with_headers, later in made:
        now += later / 1000
        clock.setattr(time, "time", lambda at=now: at)
        keys, values = [row[0] for row in rows], [row[1] for row in rows]
        taken.append(builder.extend(keys, values, [row[2] for row in rows] if with_headers else None, 0))
    return taken


def _read(batch: bytes) -> list[object]:
    opened = DefaultRecordBatch(bytearray(batch))
    assert opened.validate_crc()
    said = opened.producer_id, opened.producer_epoch, opened.base_sequence, opened.max_timestamp
    return [
        opened.is_transactional,
        said,
        [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in opened],
    ]


@given(calls, st.integers(min_value=61, max_value=4000), st.sampled_from([0, 1, 2, 3, 4]), st.booleans())
def test_both_builders_write_the_same_bytes(
    made: list, size: int, compression: int, transactional: bool
) -> None:
    with pytest.MonkeyPatch.context() as clock:
        plain = PlainBuilder(size, compression, is_transactional=transactional)
        compiled = CompiledBuilder(size, compression, transactional=transactional)
        assert _filled(plain, made, clock) == _filled(compiled, made, clock)
        assert plain.record_count() == compiled.record_count()
        if not plain.record_count():
            return
        assert plain.size() == compiled.size()
        for builder in plain, compiled:
            builder._set_producer_state(2**40, 7, 2**31 - 3)
        expected, found = bytes(plain._build()), bytes(compiled._build())
        if compression:
            # Gzip has the time in it, and what compressing makes longer is not compressed here.
            assert _read(found) == _read(expected)
            assert len(found) <= len(expected)
        else:
            assert found == expected
        assert compiled._build() is compiled._build()
        assert len(found) == compiled.size()


def test_a_closed_builder_takes_nothing() -> None:
    builder = CompiledBuilder(1000, 0)
    assert builder.extend([b"k"], [b"v"], None, 0) == 1
    builder.close()
    assert builder.extend([b"k"], [b"v"], None, 0) == 0
    assert builder.record_count() == 1


@given(st.binary(max_size=100))
def test_the_checksum_is_the_librarys(data: bytes) -> None:
    assert crc32c(data) == calc_crc32c(data)
    if kernel.HARDWARE:
        assert kernel.crc32c(data) == calc_crc32c(data)


def test_a_changed_batch_is_not_intact() -> None:
    builder = CompiledBuilder(10_000, 0)
    builder.extend([os.urandom(8)], [b"value" * 50], None, 0)
    batch = builder._build()
    assert is_intact(memoryview(batch))
    assert DefaultRecordBatch(batch).validate_crc()
    for place in (21, 100, len(batch) - 1):
        batch[place] ^= 1
        assert is_intact(memoryview(batch)) is False
        batch[place] ^= 1
    batch[16] = 1
    assert is_intact(memoryview(batch)) is None


def test_what_is_no_bytes_is_refused() -> None:
    with pytest.raises(TypeError):
        CompiledBuilder(1000, 0).extend(["text"], [b"v"], None, 0)  # type: ignore[list-item]
