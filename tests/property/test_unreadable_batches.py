"""Batches with a valid checksum that no library of ours can read, and some that Java lets pass."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable

import cramjam
import pytest
from aiokafka.codec import lz4_encode, snappy_encode, zstd_encode
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import UnreadableBatch
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.raw_batches import opened, plain_records
from stream_ensemble.kafka.unpacking import MOST, unpacked
from tests.raw_records import GZIP, LOG_APPEND_TIME, LZ4, SNAPPY, ZSTD, batch, chunk, record, varint

READER = PredictionReader(["a"], [0], Classes(("x", "y"), 1e-6))
PURE = PredictionReader(["a"], [0], Classes(("x", "y"), 1e-6))
PURE.compiled = None


def message(name: str) -> bytes:
    value = f'{{"version":1,"kind":"prediction","request_id":"{name}","member":"a","output":[0.5,0.5]}}'
    return value.encode()


def records(n: int = 2) -> bytes:
    return b"".join(record(i, f"r{i}".encode(), message(f"r{i}")) for i in range(n))


def lz4_with_checksum(checksum: bytes) -> bytes:
    compressor = cramjam.lz4.Compressor(level=3, content_checksum=True, block_linked=False)
    compressor.compress(records())
    return bytes(compressor.finish())[:-4] + checksum


PACK: dict[int, Callable[[bytes], bytes]] = {
    GZIP: gzip.compress,
    SNAPPY: snappy_encode,
    LZ4: lz4_encode,
    ZSTD: zstd_encode,
}
#: What a real broker takes, all of it (see tests/integration), and what is said of it.
LET_THROUGH = {
    "bytes behind gzip": (gzip.compress(records()) + b"junk", GZIP, "gzip: .*header"),
    "wrong content checksum": (lz4_with_checksum(b"\1\2\3\4"), LZ4, "lz4: .*[Cc]hecksum"),
    "bytes behind lz4": (lz4_encode(records()) + b"junk", LZ4, "lz4: "),
    "bytes behind snappy": (snappy_encode(records()) + b"\0\0", SNAPPY, "snappy: .*behind its last block"),
    "another snappy": (
        snappy_encode(records())[:8] + struct.pack(">ii", 2, 1) + snappy_encode(records())[16:],
        SNAPPY,
        "snappy: ",
    ),
    "offsets that go back": (record(5, b"r", b"x") + record(3, b"r", b"x"), 0, "do not count up"),
    "one offset twice": (record(0, b"r", b"x") + record(0, b"r", b"x"), 0, "do not count up"),
    "an offset before it": (record(-5, b"r", b"x") + record(1, b"r", b"x"), 0, "do not count up"),
}
REFUSED_BY_BROKERS = {
    "nothing of its kind": (b"\xff" * 30, GZIP, "gzip: "),
    "cut gzip": (gzip.compress(records())[:-9], GZIP, "gzip: "),
    "cut lz4": (lz4_encode(records())[:-5], LZ4, "lz4: "),
    "cut zstd": (zstd_encode(records())[:-1], ZSTD, "zstd: "),
    "cut snappy": (snappy_encode(records())[:-1], SNAPPY, "snappy: "),
    "no such compression": (records(), 5, "no compression has the number 5"),
    "no records": (b"\xff" * 40, 0, "record 0: "),
    "fewer than it says": (records(1), 0, "record 1: "),
    "more than it says": (records(3), 0, "bytes behind its last record"),
    "cut behind a length": (records(1) + varint(143), 0, "record 1: "),
    "a length beyond the end": (
        varint(8) + b"\0\0\0" + varint(100) + b"abcd",
        0,
        "100 bytes where 4 are left",
    ),
}


@pytest.mark.parametrize(
    ("payload", "codec", "said"),
    [*LET_THROUGH.values(), *REFUSED_BY_BROKERS.values()],
    ids=[*LET_THROUGH, *REFUSED_BY_BROKERS],
)
@pytest.mark.parametrize("reader", [READER, PURE], ids=["compiled", "pure"])
def test_it_is_refused_as_one_record_and_its_neighbours_are_read(
    reader: PredictionReader, payload: bytes, codec: int, said: str
) -> None:
    bad = batch(payload, 2, codec | LOG_APPEND_TIME, 12)
    after = batch(records(), 2, LOG_APPEND_TIME, 14)
    part = chunk([batch(records(), 2, LOG_APPEND_TIME, 10), bad, after], 10)
    taken = reader.take([(0, part)])
    assert [read.rows.offsets.tolist() for read in taken.reads] == [[10, 11, 14, 15]]
    [refused] = taken.refused
    assert refused.error.reason == "unreadable-batch"
    with pytest.raises(RecordError, match=said):
        raise refused.error
    assert "offsets 12 to 13" in refused.error.detail
    assert (refused.offset, refused.record.value) == (12, bad)


def test_what_was_read_before_it_is_not_named_again() -> None:
    part = chunk([batch(b"\xff" * 30, 3, GZIP, 10)], 11)
    [[one]] = [run.records for run in part.runs()]
    assert isinstance(one, UnreadableBatch)
    assert one.offset == 11
    assert "offsets 11 to 12" in one.error.detail


@pytest.mark.parametrize("codec", [0, GZIP, ZSTD])
@pytest.mark.parametrize("reader", [READER, PURE], ids=["compiled", "pure"])
def test_names_of_headers_that_are_no_text_spoil_nothing(reader: PredictionReader, codec: int) -> None:
    payload = record(0, b"r0", message("r0"), [(b"\xff\xfe", b"x"), (b"y", None)])
    packed = PACK[codec](payload) if codec else payload
    taken = reader.take([(0, chunk([batch(packed, 1, codec | LOG_APPEND_TIME)]))])
    assert not taken.refused
    [read] = taken.reads
    assert read.rows.ids == [b"r0"]
    assert list(read.records[0].headers) == [("\ufffd\ufffd", b"x"), ("y", None)]


@pytest.mark.parametrize("codec", PACK, ids=["gzip", "snappy", "lz4", "zstd"])
def test_what_unpacks_to_gigabytes_is_refused_before_it_does(codec: int) -> None:
    packed = PACK[codec](bytes(8 << 20)) if codec == SNAPPY else PACK[codec](bytes(96 << 20))
    most = 4 << 20 if codec == SNAPPY else 32 << 20
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match=f"more than {MOST:,} bytes"):
            unpacked(codec, memoryview(packed), most)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2.2 * most


def test_many_that_are_large_together_are_refused_from_there_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_ensemble.kafka.chunks.MOST", 1 << 20)
    large = zstd_encode(record(0, b"r", bytes(400 << 10)))
    part = chunk([batch(large, 1, ZSTD | LOG_APPEND_TIME, i) for i in range(4)])
    found = [isinstance(run.records[0], UnreadableBatch) for run in part.runs()]
    assert found == [False, False, True, True]


@given(st.sampled_from([*PACK]), st.binary(max_size=5000), st.integers(1, 40))
def test_what_is_sound_comes_out_as_it_went_in(codec: int, content: bytes, times: int) -> None:
    content *= times
    assert bytes(unpacked(codec, memoryview(PACK[codec](content)))) == content


@given(
    st.sampled_from([0, *PACK]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4),
    st.integers(0, 400),
    st.binary(max_size=6),
)
def test_a_batch_is_read_alike_by_all_or_refused_alike(
    codec: int, changes: list[tuple[int, int]], cut: int, behind: bytes
) -> None:
    payload = bytearray(PACK[codec](records(3)) if codec else records(3))
    for place, byte in changes:
        payload[place % len(payload)] = byte
    whole = bytes(payload[: len(payload) - cut if cut < 5 else None]) + behind
    raw = batch(whole, 3, codec | LOG_APPEND_TIME)
    outcomes = []
    for reader in (READER, PURE):
        taken = reader.take([(0, chunk([raw]))])
        read = [(o, i) for each in taken.reads for o, i in zip(each.rows.offsets, each.rows.ids, strict=True)]
        outcomes.append((read, [(one.offset, str(one.error)) for one in taken.refused]))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=80), st.integers(1, 4))
def test_bytes_are_records_or_an_error(payload: bytes, count: int) -> None:
    try:
        ready = opened(memoryview(batch(payload, count)))
        assert ready is not None
        plain_records(ready)
    except RecordError as error:
        assert error.reason == "unreadable-batch"
