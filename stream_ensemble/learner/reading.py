"""From feedback records to labels: what is used here, what belongs elsewhere, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from stream_ensemble import messages
from stream_ensemble.core.labels.records import Feedback
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import Refused, decode, forwarded_from, matching_key
from stream_ensemble.learner.original import pack
from stream_ensemble.messages import Forwarded

_decode_feedback = msgspec.json.Decoder(messages.Feedback).decode


class Misplaced(NamedTuple):
    """A label that belongs to ``partition``: to be moved there once, saying where it was first written."""

    partition: int
    key: bytes
    record: Any
    origin: Forwarded


@dataclass(slots=True)
class Labels:
    """What one chunk of feedback p held."""

    here: list[Feedback] = field(default_factory=list)
    elsewhere: list[Misplaced] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


class _Row(NamedTuple):
    place: int
    key: bytes
    label: messages.Feedback
    forwarded: Forwarded | None


class FeedbackReader:
    """Reads partition ``partition`` of the feedback topic.

    Args:
        topic: its name.
        partitions: how many partitions the topic has.
    """

    def __init__(self, topic: str, partition: int, partitions: int) -> None:
        self._topic = topic
        self._partition = partition
        self._partitions = partitions

    def read(self, columns: Columns) -> Labels:
        """Sort N records into labels for here, labels for elsewhere and what cannot be used."""
        found = Labels()
        rows = self._rows(columns, found.refused)
        if not rows:
            return found
        canonical = partitions_of([row.key for row in rows], self._partitions).tolist()
        for row, partition in zip(rows, canonical, strict=True):
            record = columns.records[row.place]
            offset, appended = int(columns.offsets[row.place]), int(columns.appended[row.place])
            if partition == self._partition:
                found.here.append(self._label(row, record, offset, appended))
            elif row.forwarded is None:
                origin = self._here(offset, appended)
                found.elsewhere.append(Misplaced(partition, row.key, record, origin))
            else:
                error = RecordError(
                    "misrouted", "it was forwarded once and still is not in its canonical partition"
                )
                found.refused.append(Refused(record, offset, appended, error))
        return found

    def _rows(self, columns: Columns, refused: list[Refused]) -> Sequence[_Row]:
        rows = []
        for place, record in enumerate(columns.records):
            try:
                label = decode(record.value, _decode_feedback)
                key = matching_key(record.key, label.request_id)
                rows.append(_Row(place, key, label, forwarded_from(record)))
            except RecordError as error:
                offset, appended = int(columns.offsets[place]), int(columns.appended[place])
                refused.append(Refused(record, offset, appended, error))
        return rows

    def _here(self, offset: int, appended: int) -> Forwarded:
        return Forwarded(
            topic=self._topic, partition=self._partition, offset=offset, row=0, appended=appended
        )

    def _label(self, row: _Row, record: Any, offset: int, appended: int) -> Feedback:
        """A forwarded label keeps the append time and the origin of the record it was first written in."""
        moved = row.forwarded or self._here(offset, appended)
        return Feedback(
            request_id=row.label.request_id,
            label=row.label.label,
            revision=row.label.revision,
            weight=row.label.weight,
            appended=moved.appended,
            origin=(moved.topic, moved.partition, moved.offset, moved.row),
            record=pack(record),
        )
