"""From columnar records to the join's columns, without a Python object per number.

A bad row is refused by itself; its neighbours are used. A record that cannot be read is refused whole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from stream_ensemble.columnar import predictions
from stream_ensemble.columnar.forms import form_of
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.join.records import NO_TIME, Answer, Predictions
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns, Row
from stream_ensemble.kafka.decode import Expected, Read, Refused, forwarded_from
from stream_ensemble.messages import FORMAT_ARRAYS, FORMAT_COLUMNS, HEADER_FORMAT, Forwarded

#: The headers of most columnar records.
_PLAIN: Final = ((HEADER_FORMAT, FORMAT_COLUMNS),)
_UNPACK: Final = {FORMAT_COLUMNS: predictions.unpack, FORMAT_ARRAYS: predictions.unpack_arrays}


class ColumnarReader:
    """Reads columnar predictions of one ensemble."""

    def __init__(self, expected: Expected) -> None:
        self._index, self._topic_of, self._domain = expected
        self._values = expected.values
        self._expected = expected

    def read(self, topic: int, columns: Columns) -> tuple[list[Read], list[Refused]]:
        """The rows of M columnar records of one topic that can be used, and what is refused."""
        read = self._read_all(topic, columns)
        return ([read], []) if read is not None else self.read_carefully(topic, columns)

    def _read_all(self, topic: int, columns: Columns) -> Read | None:
        """The fast way, for binary records of one member that are all plain; None when not all are."""
        records = columns.records
        if any(tuple(record.headers) != _PLAIN for record in records):
            return None
        together = predictions.unpack_all([record.value or b"" for record in records])
        if together is None:
            return None
        member = self._index.get(together.member, -1)
        if member < 0 or self._topic_of[member] != topic or together.outputs.shape[1] != self._values:
            return None
        outputs = together.outputs.astype(np.float64)
        if not self._domain.are_outputs(outputs).all():
            return None
        n, per_record = len(together.ids), together.rows
        begins = np.cumsum(per_record) - per_record
        rows = Predictions(
            member,
            together.ids,
            outputs,
            None,
            np.full(n, NO_TIME) if together.at is None else together.at,
            np.repeat(columns.appended, per_record),
            np.repeat(columns.offsets, per_record),
            (np.arange(n) - np.repeat(begins, per_record)).astype(np.int32),
        )
        return Read(rows, _Rows(records, begins.tolist(), None))

    # --- record by record -------------------------------------------------------------------------

    def read_carefully(self, topic: int, columns: Columns) -> tuple[list[Read], list[Refused]]:
        """The same record by record: any member, either form, all columns, and what is wrong in words."""
        found: list[_Found] = []
        refused: list[Refused] = []
        places = zip(columns.records, columns.offsets.tolist(), columns.appended.tolist(), strict=True)
        for record, offset, appended in places:
            try:
                batch, moved = self._batch(topic, record)
            except RecordError as error:
                refused.append(Refused(record, offset, appended, error, topic))
                continue
            wrong = self._wrong_outputs(batch) | batch.wrong
            for row, problem in sorted(wrong.items()):
                alone = row_of(batch, row, record)
                refused.append(Refused(alone, offset, appended, problem, topic, row))
            good = [row for row in range(len(batch)) if row not in wrong]
            if good:
                found.append(_Found(record, offset, appended, batch, good, moved))
        return [self._gather(found)] if found else [], refused

    def _batch(self, topic: int, record: Any) -> tuple[PredictionBatch, Forwarded | None]:
        batch = unpacked(record)
        self._expected.check_member(batch.member, topic)
        return batch, forwarded_from(record)

    def _wrong_outputs(self, batch: PredictionBatch) -> dict[int, RecordError]:
        rows = np.arange(len(batch))
        if batch.answers is not None:
            rows = np.flatnonzero(batch.answers == Answer.OUTPUT)
        outputs = batch.outputs[rows].astype(np.float64)
        if outputs.shape[1] == self._values:
            rows = rows[~self._domain.are_outputs(outputs)]
        wrong = {}
        for row in rows.tolist():
            try:
                self._domain.check(batch.outputs[row].tolist())
            except RecordError as error:
                wrong[row] = error
        return wrong

    def _gather(self, found: Sequence[_Found]) -> Read:
        counts = [len(one.rows) for one in found]
        begins = (np.cumsum(counts) - counts).tolist()
        n = sum(counts)
        outputs = np.zeros((n, self._values))
        answers = np.zeros(n, np.uint8)
        at = np.repeat(np.array([one.appended for one in found], np.int64), counts)
        ids: list[bytes] = []
        segments: dict[int, str] = {}
        traces: dict[int, bytes] = {}
        forwarded: set[int] = set()
        for begin, one in zip(begins, found, strict=True):
            batch, end = one.batch.take(one.rows), begin + len(one.rows)
            ids += batch.ids
            if batch.answers is not None:
                answers[begin:end] = batch.answers
            awake = answers[begin:end] == Answer.OUTPUT
            if awake.any():
                outputs[begin:end][awake] = batch.outputs[awake]
            if one.moved is not None:
                at[begin:end] = one.moved.appended
                forwarded.update(range(begin, end))
            if batch.at is not None:
                at[begin:end] = np.where(batch.at == NO_TIME, at[begin:end], batch.at)
            segments.update((begin + row, segment) for row, segment in batch.segments.items())
            traces.update((begin + row, trace) for row, trace in batch.traces.items())
        members = [self._index[one.batch.member] for one in found]
        rows = Predictions(
            members[0] if len(set(members)) == 1 else np.repeat(np.array(members, np.int64), counts),
            ids,
            outputs,
            answers if answers.any() else None,
            at,
            np.repeat(np.array([one.appended for one in found], np.int64), counts),
            np.repeat(np.array([one.offset for one in found], np.int64), counts),
            np.concatenate([one.rows for one in found]).astype(np.int32),
            segments,
            frozenset(forwarded),
            traces,
        )
        return Read(rows, _Rows([one.record for one in found], begins, [one.rows for one in found]))


class _Found(NamedTuple):
    """A record that was read, and which of its rows can be used."""

    record: Any
    offset: int
    appended: int
    batch: PredictionBatch
    rows: list[int]
    moved: Forwarded | None


class _Rows:
    """The rows of M records, each as a record of its own, made when asked for: few ever move.

    Args:
        begins: the first place of each record's rows.
        rows: which rows of each record are meant; None: all.
    """

    def __init__(self, records: Sequence[Any], begins: list[int], rows: list[list[int]] | None) -> None:
        self._records = records
        self._begins = begins
        self._rows = rows
        self._opened: tuple[int, PredictionBatch] | None = None

    def __getitem__(self, place: int, /) -> Row:
        number = bisect_right(self._begins, place) - 1
        row = place - self._begins[number]
        if self._rows is not None:
            row = self._rows[number][row]
        if self._opened is None or self._opened[0] != number:
            self._opened = number, unpacked(self._records[number])
        return row_of(self._opened[1], row, self._records[number])


def unpacked(record: Any) -> PredictionBatch:
    """The rows of a columnar record, in either form.

    Raises:
        RecordError: it cannot be read.
    """
    form = form_of(record, _UNPACK)
    assert form is not None
    return _UNPACK[form](record.value or b"")


def row_of(batch: PredictionBatch, row: int, record: Any) -> Row:
    """Row ``row`` of ``record`` as a record of its own, in the form it came in."""
    return Row(None, predictions.row(batch, row), list(record.headers))
