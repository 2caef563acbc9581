"""A batch becomes one record for each partition, in order, none too large."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from stream_ensemble.columnar import predictions
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, HEADER_FORMAT
from stream_ensemble.sdk.errors import InvalidInputError
from stream_ensemble.sdk.producing import LARGEST_RECORD_BYTES
from stream_ensemble.sdk.wire import MOST_ROWS, records_of

PARTITIONS = 4


def batch_of(rows: int, classes: int = 2) -> PredictionBatch:
    ids = [secrets.token_hex(8).encode() for _ in range(rows)]
    return PredictionBatch("forest", ids, np.arange(rows * classes, dtype=np.float64).reshape(rows, classes))


def test_a_form_that_is_none_is_named() -> None:
    with pytest.raises(InvalidInputError, match="wire 'json': expected 'columns' or 'arrays'"):
        records_of(batch_of(1), predictions.pack, "json", PARTITIONS)  # type: ignore[arg-type]


def test_every_row_is_in_the_record_of_its_partition_in_order() -> None:
    batch = batch_of(200)
    records = records_of(batch, predictions.pack, "columns", PARTITIONS)
    assert [record.partition for record in records] == [0, 1, 2, 3]
    assert all(record.key is None for record in records)
    assert all(record.headers == [(HEADER_FORMAT, FORMAT_COLUMNS)] for record in records)
    found = {}
    for record in records:
        read = predictions.unpack(record.value)
        assert {partition_of(request_id, PARTITIONS) for request_id in read.ids} == {record.partition}
        assert read.ids == [request_id for request_id in batch.ids if request_id in set(read.ids)]
        found |= dict(zip(read.ids, read.outputs.tolist(), strict=True))
    assert found == dict(zip(batch.ids, batch.outputs.tolist(), strict=True))


def test_arrays_say_that_they_are_arrays() -> None:
    (record,) = records_of(batch_of(1), predictions.pack_arrays, "arrays", PARTITIONS)
    assert record.headers == [(HEADER_FORMAT, FORMAT_ARRAYS)]
    assert len(predictions.unpack_arrays(record.value)) == 1


def test_many_rows_are_cut_by_their_number() -> None:
    records = records_of(batch_of(MOST_ROWS + 1), predictions.pack, "columns", 1)
    assert [len(predictions.unpack(record.value)) for record in records] == [MOST_ROWS, 1]


def test_large_rows_are_cut_by_their_size() -> None:
    batch = batch_of(20, classes=20_000)
    records = records_of(batch, predictions.pack, "columns", 1)
    assert all(len(record.value) <= LARGEST_RECORD_BYTES for record in records)
    together = [predictions.unpack(record.value) for record in records]
    assert [request_id for read in together for request_id in read.ids] == batch.ids
    assert len(records) < 20


def test_a_row_that_fits_no_record_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"request b'.*': 1600\d\d\d bytes, at most"):
        records_of(batch_of(2, classes=200_000), predictions.pack, "columns", 1)


def test_no_rows_are_no_records() -> None:
    assert records_of(batch_of(0), predictions.pack, "columns", PARTITIONS) == []
