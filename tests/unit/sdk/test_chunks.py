"""A large call is cut into portions that fit one time-out."""

from __future__ import annotations

import pytest

from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.producing import LARGEST_RECORD_BYTES, Record, _chunks


def records(*sizes: int) -> list[Record]:
    return [Record(b"", bytes(size), []) for size in sizes]


def test_portions_keep_every_record_in_order() -> None:
    many = [Record(b"%d" % row, b"", []) for row in range(25_000)]
    chunks = _chunks(many)
    assert [len(chunk) for chunk in chunks] == [10_000, 10_000, 5_000]
    assert [record for chunk in chunks for record in chunk] == many


def test_large_records_make_small_portions() -> None:
    megabytes = records(*[1_000_000] * 40)
    assert [len(chunk) for chunk in _chunks(megabytes)] == [16, 16, 8]


def test_the_largest_record_that_fits_is_taken_and_the_next_larger_is_named() -> None:
    _chunks(records(1, LARGEST_RECORD_BYTES))
    with pytest.raises(InvalidInputError, match="row 1: 1048065 bytes, at most 1048064 fit a record"):
        _chunks(records(1, LARGEST_RECORD_BYTES + 1))
