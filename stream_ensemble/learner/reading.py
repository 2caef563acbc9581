"""From feedback records to labels: what is used here, what belongs elsewhere, what is refused.

A record is one label or, with a header that says so, has a label in each of its rows. Both come out alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from stream_ensemble import compiled, messages
from stream_ensemble.columnar import feedbacks, part_feedbacks
from stream_ensemble.columnar.feedbacks import FeedbackBatch
from stream_ensemble.columnar.forms import form_of
from stream_ensemble.core.labels.records import Feedback
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import Refused, decode, forwarded_from, matching_key, misrouted
from stream_ensemble.learner.controls import read_control
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.original import pack, pack_row, row_of, unpack
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    AnyLabel,
    Control,
    Forwarded,
    PartLabel,
    Source,
    Trial,
)

_decode_feedback = msgspec.json.Decoder(messages.Feedback).decode
_decode_part = msgspec.json.Decoder(messages.PartFeedback).decode
_UNPACK: Final = {FORMAT_COLUMNS: feedbacks.unpack, FORMAT_ARRAYS: feedbacks.unpack_arrays}
_UNPACK_PARTS: Final = {FORMAT_COLUMNS: part_feedbacks.unpack, FORMAT_ARRAYS: part_feedbacks.unpack_arrays}
_new_label = partial(tuple.__new__, Feedback)


class Misplaced(NamedTuple):
    """A label that belongs to ``partition``: to be moved there once, saying where it was first written."""

    partition: int
    label: Feedback


@dataclass(slots=True)
class Labels:
    """What some records of feedback p held; its length is that of the labels.

    ``controls_appended`` are the append times (ms) of the control records; ``trials`` what shadows said late.
    """

    here: list[Feedback] = field(default_factory=list)
    elsewhere: list[Misplaced] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    controls_appended: list[int] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.here) + len(self.elsewhere) + len(self.refused)


class _Read(NamedTuple):
    """Labels that can be used, wherever they belong, with their ids as bytes; and the rest.

    ``forwarded`` has those that were moved already, by their place in ``labels``: offset, append time and row
    where they stand now.
    """

    labels: list[Feedback]
    ids: list[bytes]
    forwarded: dict[int, tuple[int, int, int]]
    refused: list[Refused]
    controls: list[tuple[Control, int]]
    trials: list[Trial]


class _Many(NamedTuple):
    """Labels of N records read at once, by column; None in all of them where a record is to be read by
    itself.
    """

    ids: Sequence[Any]
    names: Sequence[Any]
    labels: Sequence[Any]
    revisions: Sequence[Any]
    weights: Sequence[Any]


class FeedbackReader:
    """Reads partition ``partition`` of the feedback topic.

    Args:
        topic: its name.
        partitions: how many partitions the topic has.
        domain: of the task the labels are about.
    """

    def __init__(self, topic: str, partition: int, partitions: int, domain: Domain) -> None:
        self._domain = domain
        self._decode: Callable[[bytes], Any] = _decode_part if domain.parts else _decode_feedback
        self._unpack = _UNPACK_PARTS if domain.parts else _UNPACK
        self._topic = topic
        self._partition = partition
        self._partitions = partitions

    def read(self, columns: Columns) -> Labels:
        """Sort the labels of N records into labels for here, labels for elsewhere and what cannot be used."""
        read = _Read([], [], {}, [], [], [])
        offsets, appended = columns.offsets.tolist(), columns.appended.tolist()
        begin, many = 0, self._many(columns.records)
        odd = [place for place, name in enumerate(many.ids) if name is None]
        for place in odd:
            self._read_many(read, many, slice(begin, place), columns.records, offsets, appended)
            self._read_record(read, columns.records[place], offsets[place], appended[place])
            begin = place + 1
        self._read_many(read, many, slice(begin, None), columns.records, offsets, appended)
        return self._sorted(read)

    def _many(self, records: Sequence[Any]) -> _Many:
        if not compiled.AVAILABLE or self._domain.parts:
            return _Many(*repeat([None] * len(records), 5))
        # One with headers may have another form, or have been forwarded.
        values = [None if record.headers else record.value for record in records]
        return _Many(*compiled.reading.read_labels([record.key for record in records], values))

    def _read_many(
        self,
        read: _Read,
        many: _Many,
        run: slice,
        records: Sequence[Any],
        offsets: Sequence[int],
        appended: Sequence[int],
    ) -> None:
        """Take what was read at once of some records that follow each other."""
        origins = zip(repeat(self._topic), repeat(self._partition), offsets[run], repeat(0), strict=False)
        originals = map(partial, repeat(pack), records[run])
        columns = (*(column[run] for column in many[1:]), appended[run], origins, originals)
        read.ids.extend(many.ids[run])
        read.labels.extend(map(_new_label, zip(*columns, strict=False)))

    def _read_record(self, read: _Read, record: Any, offset: int, appended: int) -> None:
        """Take any record by itself."""
        try:
            form = form_of(record, self._unpack) if record.headers else None
            if form is None:
                self._read_one(read, record, offset, appended)
            else:
                self._read_rows(read, self._unpack[form](record.value or b""), record, offset, appended)
        except RecordError as error:
            self._read_control(read, record, offset, appended, error)

    def _read_one(self, read: _Read, record: Any, offset: int, appended: int) -> None:
        label: messages.Feedback | messages.PartFeedback = decode(record.value, self._decode)
        key = matching_key(record.key, label.request_id)
        # A forwarded label keeps the append time and the origin of the record it was first written in.
        moved = forwarded_from(record) if record.headers else None
        origin: Source = (self._topic, self._partition, offset, 0)
        if moved is not None:
            read.forwarded[len(read.ids)] = offset, appended, 0
            appended, origin = moved.appended, _origin(moved)
        read.ids.append(key)
        text, original = label.request_id, partial(pack, record)
        read.labels.append(
            _new_label((text, _said(label), label.revision, label.weight, appended, origin, original))
        )

    def _read_control(self, read: _Read, record: Any, offset: int, appended: int, error: RecordError) -> None:
        """What is no label because of ``error``: only here, so that labels do not pay for it."""
        try:
            found = read_control(record.value, error)
            if isinstance(found, Control):
                read.controls.append((found, appended))
            else:
                self._domain.check(found.output)
                read.trials.append(found)
        except RecordError as wrong:
            read.refused.append(Refused(record, offset, appended, wrong))

    def _read_rows(self, read: _Read, batch: FeedbackBatch, record: Any, offset: int, appended: int) -> None:
        moved = forwarded_from(record)
        good: Sequence[int] = range(len(batch))
        usable = batch
        if batch.wrong:
            good = [row for row in good if row not in batch.wrong]
            usable = batch.take(good)
            for row, error in sorted(batch.wrong.items()):
                read.refused.append(Refused(row_of(record, batch, row), offset, appended, error, row=row))
        origins: Iterable[Source] = zip(
            repeat(self._topic), repeat(self._partition), repeat(offset), good, strict=False
        )
        if moved is not None:
            places = enumerate(good, len(read.ids))
            read.forwarded.update((place, (offset, appended, row)) for place, row in places)
            appended, origins = moved.appended, repeat(_origin(moved))
        originals = map(partial, repeat(pack_row), repeat(record), repeat(batch), good)
        read.ids.extend(usable.ids)
        read.labels.extend(_labels(usable, appended, origins, originals))

    def _sorted(self, read: _Read) -> Labels:
        found = Labels(refused=read.refused, trials=read.trials)
        for control, appended in read.controls:
            found.controls.append(control)
            found.controls_appended.append(appended)
        if not read.ids:
            return found
        canonical = partitions_of(read.ids, self._partitions)
        strays: list[int] = np.flatnonzero(canonical != self._partition).tolist()
        if not strays:
            found.here = read.labels
            return found
        away = set(strays)
        found.here = [label for place, label in enumerate(read.labels) if place not in away]
        for place in strays:
            label = read.labels[place]
            if place in read.forwarded:
                found.refused.append(_misrouted(label, *read.forwarded[place]))
            else:
                found.elsewhere.append(Misplaced(int(canonical[place]), label))
        return found


def _said(label: messages.Feedback | messages.PartFeedback) -> AnyLabel:
    return PartLabel(label.part, label.label) if isinstance(label, messages.PartFeedback) else label.label


def feedback_reader(ensemble: LearnedEnsemble, partition: int) -> FeedbackReader:
    """The reader of one of an ensemble's partitions."""
    return FeedbackReader(
        ensemble.topics.feedback, partition, ensemble.config.partitions, ensemble.rules.domain
    )


def _labels(
    batch: FeedbackBatch, appended: int, origins: Iterable[Source], originals: Iterable[Callable[[], bytes]]
) -> Iterable[Feedback]:
    """The rows of a batch. By columns: a line of Python for each would cost as much as reading them."""
    columns = zip(
        map(bytes.decode, batch.ids),
        batch.labels,
        repeat(0) if batch.revisions is None else batch.revisions.tolist(),
        repeat(1.0) if batch.weights is None else batch.weights.tolist(),
        repeat(appended),
        origins,
        originals,
        strict=False,
    )
    return map(_new_label, columns)


def _origin(moved: Forwarded) -> Source:
    return moved.topic, moved.partition, moved.offset, moved.row


def _misrouted(label: Feedback, offset: int, appended: int, row: int) -> Refused:
    record = unpack(label.original())
    return Refused(record, offset, appended, misrouted(), row=row)
