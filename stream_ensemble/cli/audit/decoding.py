"""Records of one partition as the auditor's rows, by the wire forms alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.audit import rows
from stream_ensemble.cli.audit.rows import Rows, checksum, hashes, place, table
from stream_ensemble.columnar import feedbacks, fuseds, part_feedbacks, prediction_arrays, predictions
from stream_ensemble.columnar.forms import form_of
from stream_ensemble.columnar.fused_messages import records
from stream_ensemble.columnar.prediction_batch import PredictionBatch
from stream_ensemble.core.join.records import NO_TIME, Answer, Cause, Status
from stream_ensemble.core.labels.keys import BETWEEN
from stream_ensemble.core.learning.control import checked
from stream_ensemble.errors import RecordError
from stream_ensemble.messages import (
    FORMAT_ARRAYS,
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_DEAD_LETTER,
    HEADER_FORWARDED,
    HEADER_SOURCE,
    UNREADABLE,
    Applied,
    Control,
    DeadLetter,
    Feedback,
    Forwarded,
    Fused,
    PartFeedback,
    Prediction,
    Request,
    Trial,
    Weights,
)

FORMS = (FORMAT_COLUMNS, FORMAT_ARRAYS)

_prediction = msgspec.json.Decoder(Prediction).decode
_request = msgspec.json.Decoder(Request).decode
_feedback = msgspec.json.Decoder(Feedback).decode
_part_feedback = msgspec.json.Decoder(PartFeedback).decode
_control = msgspec.json.Decoder(Control).decode
_trial = msgspec.json.Decoder(Trial).decode
_fused = msgspec.json.Decoder(Fused).decode
_applied = msgspec.json.Decoder(Applied).decode
_weights = msgspec.json.Decoder(Weights).decode
_dead = msgspec.json.Decoder(DeadLetter).decode
_moved = msgspec.json.Decoder(Forwarded).decode
_UNPACK: Mapping[bytes, Callable[[bytes], PredictionBatch]] = {
    FORMAT_COLUMNS: predictions.unpack,
    FORMAT_ARRAYS: prediction_arrays.unpack_arrays,
}
_STATUS = {status.name.lower(): int(status) for status in Status}
_CAUSE = {None if cause == Cause.NONE else cause.name.lower(): int(cause) for cause in Cause}


@dataclass(slots=True)
class Read:
    """N rows of a topic that could be read, in log order, and the ``(offset, row, appended)`` of those that
    could not.

    ``forwarded`` is the header of records that are copies, by place in the other lists.
    """

    ids: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    within: list[int] = field(default_factory=list)
    appended: list[int] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    forwarded: dict[int, Forwarded] = field(default_factory=dict)
    unreadable: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, request_id: bytes, offset: int, row: int, appended: int, message: Any) -> None:
        """One more row."""
        self.ids.append(request_id)
        self.offsets.append(offset)
        self.within.append(row)
        self.appended.append(appended)
        self.messages.append(message)

    def places(self, topic: int) -> NDArray[np.uint64]:
        """Of all rows."""
        return np.array(
            [place(topic, offset, row) for offset, row in zip(self.offsets, self.within, strict=True)],
            np.uint64,
        )


class Said(msgspec.Struct, gc=False):
    """What the audit needs of one prediction."""

    member: int
    answer: int
    at: int
    outputs: int


def header(record: Any, name: str) -> bytes | None:
    """The last header of that name: one that was moved twice carries the newer one behind."""
    found = None
    for key, value in record.headers or ():
        if key == name:
            found = value
    return found


def origin_of(record: Any, name: str = HEADER_FORWARDED) -> Forwarded | None:
    """Where a header says that the record was written first; None without it."""
    value = header(record, name)
    try:
        return None if value is None else _moved(value)
    except UNREADABLE:
        return None


def read_predictions(
    chunk: Iterable[tuple[Any, int, int]], members: Mapping[str, int], topic: str, topics: Sequence[str]
) -> Read:
    """Predictions of one topic.

    Args:
        chunk: record, offset and append time of each.
        members: number of each member by name.
        topics: the topic of each member.
    """
    read = Read()
    for record, offset, appended in chunk:
        origin = origin_of(record)
        begin = len(read.ids)
        try:
            for row, request_id, said in _predictions_in(record, members, topic, topics):
                if request_id is None or said is None:
                    read.unreadable.append((offset, row, appended))
                else:
                    read.add(request_id, offset, row, appended, said)
        except (*UNREADABLE, RecordError, UnicodeError):
            read.unreadable.append((offset, 0, appended))
        if origin is not None:
            read.forwarded |= dict.fromkeys(range(begin, len(read.ids)), origin)
    return read


def _predictions_in(
    record: Any, members: Mapping[str, int], topic: str, topics: Sequence[str]
) -> Iterable[tuple[int, bytes | None, Said | None]]:
    form = form_of(record, FORMS)
    if form is None:
        message = _prediction(record.value or b"")
        member = _member(message.member, members, topic, topics)
        kinds = (message.output is not None, message.abstain, message.error is not None)
        if sum(kinds) != 1:
            raise RecordError("not-one-answer", "")
        outputs = checksum(message.output) if message.output is not None else 0
        at = NO_TIME if message.at is None else message.at
        return [(0, message.request_id.encode(), Said(member, kinds.index(True), at, outputs))]
    return _batch_rows(_UNPACK[form](record.value or b""), members, topic, topics)


def _batch_rows(
    batch: PredictionBatch, members: Mapping[str, int], topic: str, topics: Sequence[str]
) -> list[tuple[int, bytes | None, Said | None]]:
    member = _member(batch.member, members, topic, topics)
    answers = [int(Answer.OUTPUT)] * len(batch) if batch.answers is None else batch.answers.tolist()
    ats = [NO_TIME] * len(batch) if batch.at is None else batch.at.tolist()
    found: list[tuple[int, bytes | None, Said | None]] = []
    for row, request_id in enumerate(batch.ids):
        if row in batch.wrong:
            found.append((row, None, None))
            continue
        outputs = checksum(batch.outputs[row].tolist()) if answers[row] == Answer.OUTPUT else 0
        found.append((row, request_id, Said(member, answers[row], ats[row], outputs)))
    return found


def _member(name: str, members: Mapping[str, int], topic: str, topics: Sequence[str]) -> int:
    number = members.get(name)
    if number is None or topics[number] != topic:
        raise RecordError("unknown-member", name)
    return number


def read_requests(chunk: Iterable[tuple[Any, int, int]]) -> Read:
    """Requests records."""
    return _read_singles(chunk, _request)


def read_feedback(chunk: Iterable[tuple[Any, int, int]], *, of_parts: bool = False) -> Read:
    """Labels, in any form; control records among them are none.

    Args:
        of_parts: are they each about a part of a request?
    """
    forms = part_feedbacks if of_parts else feedbacks
    unpack = {FORMAT_COLUMNS: forms.unpack, FORMAT_ARRAYS: forms.unpack_arrays}
    decode = _part_feedback if of_parts else _feedback

    def rows_of(record: Any) -> Iterable[tuple[int, Any]]:
        form = form_of(record, FORMS)
        if form is None:
            return _label_in(record.value or b"", decode)
        batch = unpack[form](record.value or b"")
        return [(r, None if r in batch.wrong else batch.message(r)) for r in range(len(batch))]

    return _read_rows(chunk, rows_of)


def _label_in(value: bytes, decode: Callable[[bytes], Any]) -> list[tuple[int, Any]]:
    try:
        return [(0, decode(value))]
    except UNREADABLE:
        # One that is not understood is dead-lettered as a label would be.
        if _is_trial(value):
            return []
        checked(_control(value))
        return []


def _is_trial(value: bytes) -> bool:
    """Is it what a member in shadow said late?"""
    try:
        return bool(_trial(value))
    except UNREADABLE:
        return False


def read_fused(chunk: Iterable[tuple[Any, int, int]]) -> Read:
    """Fused records, in either form."""

    def rows_of(record: Any) -> Iterable[tuple[int, Any]]:
        if form_of(record, FORMS) is None:
            return [(0, _fused(record.value or b""))]
        batch = fuseds.unpack(record.value or b"", header(record, HEADER_CREDIT))
        return enumerate(records(batch, Fused))

    return _read_rows(chunk, rows_of)


def _read_singles(chunk: Iterable[tuple[Any, int, int]], decode: Callable[[bytes], Any]) -> Read:
    return _read_rows(chunk, lambda record: [(0, decode(record.value or b""))])


def _read_rows(
    chunk: Iterable[tuple[Any, int, int]], rows_of: Callable[[Any], Iterable[tuple[int, Any]]]
) -> Read:
    read = Read()
    for record, offset, appended in chunk:
        origin = origin_of(record)
        begin = len(read.ids)
        try:
            for row, message in rows_of(record):
                if message is None:
                    read.unreadable.append((offset, row, appended))
                else:
                    read.add(message.request_id.encode(), offset, row, appended, message)
        except (*UNREADABLE, RecordError, UnicodeError):
            read.unreadable.append((offset, 0, appended))
        if origin is not None:
            read.forwarded |= dict.fromkeys(range(begin, len(read.ids)), origin)
    return read


def fused_rows(read: Read, members: Mapping[str, int], config: str) -> Rows:
    """Fused records as rows; ``config``: the digest of the settings they are judged by."""
    made = table(
        rows.FUSED,
        hashes(read.ids),
        place=read.places(0),
        appended=read.appended,
        status=[_STATUS[message.status] for message in read.messages],
        cause=[_CAUSE[message.cause] for message in read.messages],
        judged=[message.config == config for message in read.messages],
        teaches=[message.credit is not None and bool(message.components) for message in read.messages],
    )
    asleep: dict[str, list[int]] = {"missing": [], "asleep": [], "unneeded": []}
    for message in read.messages:
        masks = dict.fromkeys(asleep, 0)
        for name, why in (message.asleep or {}).items():
            mask = why if why in masks else "asleep"
            if name in members:
                masks[mask] |= 1 << members[name]
        for mask, bits in masks.items():
            asleep[mask].append(bits)
    for mask, column in asleep.items():
        made[mask] = column
    return made


def component_rows(read: Read, members: Mapping[str, int], topics: Sequence[str], partition: int) -> Rows:
    """The outputs inside fused records as rows; a source on another partition is nowhere."""
    ids, columns = [], []
    for request_id, offset, row, message in zip(
        read.ids, read.offsets, read.within, read.messages, strict=True
    ):
        fused = place(0, offset, row)
        for name, output in message.components.items():
            topic, source_partition, *at = message.sources.get(name, ("", -1, 0, 0))
            known = topic in topics and source_partition == partition
            ids.append(request_id)
            columns.append(
                (
                    place(topics.index(topic), *at) if known else rows.NOWHERE,
                    fused,
                    checksum(output),
                    members.get(name, 2**16 - 1),
                )
            )
    if not ids:
        return np.empty(0, rows.COMPONENT)
    places, fuseds_at, outputs, numbers = zip(*columns, strict=True)
    return table(
        rows.COMPONENT,
        hashes(ids),
        place=np.array(places, np.uint64),
        fused=np.array(fuseds_at, np.uint64),
        outputs=np.array(outputs, np.uint64),
        member=numbers,
    )


def late_rows(chunk: Iterable[tuple[Any, int, int]], topics: Sequence[str], partition: int) -> Rows:
    """Late records as rows, which name the place of the prediction. One that cannot be read is no excuse."""
    ids, places = [], []
    for record, _, _ in chunk:
        source = origin_of(record, HEADER_SOURCE)
        if source is None or source.topic not in topics or source.partition != partition:
            continue
        try:
            form = form_of(record, FORMS)
            value = record.value or b""
            request_id = _UNPACK[form](value).ids[0] if form else _prediction(value).request_id.encode()
        except (*UNREADABLE, RecordError):
            continue
        ids.append(request_id)
        places.append(place(topics.index(source.topic), source.offset, source.row))
    return table(rows.LATE, hashes(ids), place=np.array(places, np.uint64))


def applied_rows(chunk: Iterable[tuple[Any, int, int]], feedback: str, number: int) -> Rows:
    """Applied records as rows; a tombstone is a label given up."""
    ids, parts, columns = [], [], []
    for record, offset, _ in chunk:
        if record.value is None:
            request_id, _, part = bytes(record.key or b"").partition(BETWEEN)
            ids.append(request_id)
            parts.append(part.decode("utf-8", "replace") or None)
            columns.append((place(0, offset), rows.NOWHERE, 0, 0, 0, 0, False, True))
            continue
        try:
            said = _applied(record.value)
        except UNREADABLE:
            continue
        topic, partition, *at = said.origin
        origin = place(number, *at) if topic == feedback else rows.NOWHERE
        ids.append(said.request_id.encode())
        parts.append(said.part)
        columns.append(
            (
                place(0, offset),
                origin,
                partition,
                said.appended,
                said.revision,
                said.generation,
                said.state == "learned",
                False,
            )
        )
    if not ids:
        return np.empty(0, rows.APPLIED)
    places, origins, partitions, appended, revisions, generations, learned, gone = zip(*columns, strict=True)
    return table(
        rows.APPLIED,
        hashes(ids),
        part=rows.part_hashes(parts),
        place=np.array(places, np.uint64),
        origin=np.array(origins, np.uint64),
        partition=partitions,
        appended=appended,
        revision=revisions,
        generation=generations,
        learned=learned,
        gone=gone,
    )


def dead_origin(record: Any) -> DeadLetter | None:
    """Where a dead letter stood, and why it is one; None where that cannot be read."""
    value = header(record, HEADER_DEAD_LETTER)
    try:
        return None if value is None else _dead(value)
    except UNREADABLE:
        return None


def weights_of(value: bytes | None) -> Weights | None:
    """A contribution; None for what is none."""
    try:
        return _weights(value or b"")
    except UNREADABLE:
        return None


class _HasId(msgspec.Struct):
    request_id: str = ""


_id_of = msgspec.json.Decoder(_HasId).decode


def ids_in(record: Any) -> list[str]:
    """The request ids of a record of whatever kind, by row; none where it cannot be read."""
    value = record.value or b""
    try:
        form = form_of(record, FORMS)
        if form is None:
            return [_id_of(value).request_id]
        for unpack in (
            _UNPACK[form],
            feedbacks.unpack,
            feedbacks.unpack_arrays,
            part_feedbacks.unpack,
            part_feedbacks.unpack_arrays,
            fuseds.unpack,
        ):
            try:
                return [each.decode("utf-8", "replace") for each in unpack(value).ids]
            except (*UNREADABLE, RecordError):
                continue
    except (*UNREADABLE, RecordError):
        pass
    return []
