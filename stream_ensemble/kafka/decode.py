"""From Kafka records to the join's columns; what cannot be read is refused with a reason a person
understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.records import NO_TIME, Answer, Predictions, Requests
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.messages import HEADER_FORWARDED, HEADER_TRACE, Forwarded, Prediction, Request

_SHOWN = 120
_decode_prediction: Final = msgspec.json.Decoder(Prediction).decode
_decode_request: Final = msgspec.json.Decoder(Request).decode
_decode_forwarded: Final = msgspec.json.Decoder(Forwarded).decode
_key = attrgetter("key")
_value = attrgetter("value")
_headers = attrgetter("headers")
_member = attrgetter("member")
_request_id = attrgetter("request_id")
_odd = attrgetter("abstain", "error", "segment")
#: Headers that change how a record is read.
_MEANING: Final = {HEADER_FORWARDED}
_NOTHING_ODD: Final = {(False, None, None)}


@dataclass(slots=True)
class Refused:
    """A record for the dead-letter topic; ``topic`` is the number of its input topic, where there are
    several.
    """

    record: Any
    offset: int
    appended: int
    error: RecordError
    topic: int = 0


@dataclass(slots=True)
class Read:
    """Predictions that can be used, and the records they came from, in the same order."""

    rows: Predictions
    records: Sequence[Any]


@dataclass(slots=True)
class ReadRequests:
    """Requests records that can be used, and the records they came from."""

    rows: Requests
    records: Sequence[Any]


class PredictionReader:
    """Reads predictions of one ensemble.

    Args:
        members: names, in the order of the settings.
        topic_of: input topic index by member.
        values: numbers per output (C classes).
        sum_tolerance: how far a distribution may be from summing to 1.
    """

    def __init__(
        self, members: Sequence[str], topic_of: Sequence[int], values: int, sum_tolerance: float
    ) -> None:
        self._index = {name: k for k, name in enumerate(members)}
        self._topic_of = np.array(topic_of, np.int64)
        self._values = values
        self._tolerance = sum_tolerance
        self._alone = {
            topic: name
            for name, topic in zip(members, topic_of, strict=True)
            if list(topic_of).count(topic) == 1
        }

    def read(self, parts: Sequence[tuple[int, Columns]]) -> tuple[list[Read], list[Refused]]:
        """What can be used of the records of some input topics, and what is refused."""
        topics, columns = _together(parts)
        try:
            return [self._read_all(topics, columns)], []
        except (msgspec.DecodeError, TypeError, ValueError, KeyError, UnicodeError):
            return self.read_carefully(topics, columns)

    def _read_all(self, topics: int | NDArray[np.int64], columns: Columns) -> Read:
        """The fast way, for records that are all plain: an output, the id as key, no headers but a trace.

        Raises:
            ValueError, KeyError, TypeError, msgspec.DecodeError: not all are.
        """
        records = columns.records
        messages = list(map(_decode_prediction, map(_value, records)))
        keys = list(map(_key, records))
        # One comparison for the whole chunk; counting the separators rules out an id that contains one.
        written = "\0".join(list(map(_request_id, messages))).encode()
        if written != b"\0".join(keys) or written.count(b"\0") != len(keys) - 1:
            raise ValueError("a key that is not the id")
        traces = _only_traces(records) if any(map(_headers, records)) else {}
        segments = {}
        odd = set(map(_odd, messages))
        if odd != _NOTHING_ODD:
            if any(abstain or error is not None for abstain, error, _ in odd):
                raise ValueError("an answer without an output")
            segments = {i: m.segment for i, m in enumerate(messages) if m.segment is not None}
        rows = Predictions(
            self._members(topics, messages),
            keys,
            self._outputs(messages),
            None,
            np.array([NO_TIME if m.at is None else m.at for m in messages], np.int64),
            columns.appended,
            columns.offsets,
            None,
            segments,
            frozenset(),
            traces,
        )
        return Read(rows, records)

    def _members(
        self, topics: int | NDArray[np.int64], messages: list[Prediction]
    ) -> int | NDArray[np.int64]:
        if isinstance(topics, int) and topics in self._alone:
            name = self._alone[topics]
            if set(map(_member, messages)) != {name}:
                raise ValueError("a member of another topic")
            return self._index[name]
        members = np.fromiter(map(self._index.__getitem__, map(_member, messages)), np.int64, len(messages))
        if (self._topic_of[members] != topics).any():
            raise ValueError("a member of another topic")
        return members

    def _outputs(self, messages: list[Prediction]) -> NDArray[np.float64]:
        n, values = len(messages), self._values
        rows: list[list[float]] = [m.output for m in messages]  # type: ignore[misc]
        if set(map(len, rows)) != {values}:
            raise ValueError("an output of another length")
        outputs = np.fromiter(chain.from_iterable(rows), np.float64, n * values).reshape(n, values)
        if not (outputs.min() >= 0.0 and np.abs(outputs.sum(axis=1) - 1.0).max() <= self._tolerance):
            raise ValueError("an output that is no distribution")
        return outputs

    # --- the slow way: mixed members, headers, errors ---------------------------------------------

    def read_carefully(
        self, topics: int | NDArray[np.int64], columns: Columns
    ) -> tuple[list[Read], list[Refused]]:
        """The same record by record: headers, abstentions, errors, and what is wrong put in words.

        ``topics`` is the input topic of all N records or of each.
        """
        found: list[_Found] = []
        refused = []
        for place, record in enumerate(columns.records):
            topic = topics if isinstance(topics, int) else int(topics[place])
            try:
                found.append(_Found(place, *self._one(topic, record)))
            except RecordError as error:
                refused.append(
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error, topic)
                )
        return [self._gather(found, columns)] if found else [], refused

    def _one(self, topic: int, record: Any) -> tuple[bytes, Prediction, Forwarded | None]:
        message = decode(record.value, _decode_prediction)
        request_id = matching_key(record.key, message.request_id)
        member = self._index.get(message.member)
        if member is None:
            raise RecordError("unknown-member", f"member: {_short(message.member)} is not in this ensemble")
        if self._topic_of[member] != topic:
            raise RecordError("wrong-topic", f"member: {message.member} does not publish to this topic")
        said = (message.output is not None) + message.abstain + (message.error is not None)
        if said != 1:
            raise RecordError("not-one-answer", "output, abstain, error: exactly one must be given")
        if message.output is not None:
            self._check_distribution(message.output)
        return request_id, message, forwarded_from(record)

    def _check_distribution(self, output: list[float]) -> None:
        if len(output) != self._values:
            raise RecordError(
                "wrong-length", f"output: {len(output)} numbers, expected {self._values}, one per class"
            )
        for i, p in enumerate(output):
            if not 0.0 <= p < float("inf"):
                raise RecordError("not-a-probability", f"output[{i}]: {p!r} is not between 0 and 1")
        total = float(np.sum(np.array(output)))
        if not abs(total - 1.0) <= self._tolerance:
            raise RecordError(
                "not-a-distribution", f"output: sums to {total:.6g}, expected 1 within {self._tolerance:g}"
            )

    def _gather(self, found: list[_Found], columns: Columns) -> Read:
        places = np.array([one.place for one in found])
        outputs = np.zeros((len(found), self._values))
        answers = np.zeros(len(found), np.uint8)
        at = columns.appended[places].copy()
        segments = {}
        forwarded = set()
        for row, (_, _, message, moved) in enumerate(found):
            if message.output is not None:
                outputs[row] = message.output
            else:
                answers[row] = Answer.ABSTAIN if message.abstain else Answer.ERROR
            if moved is not None:
                forwarded.add(row)
                at[row] = moved.appended
            if message.at is not None:
                at[row] = message.at
            if message.segment is not None:
                segments[row] = message.segment
        records = [columns.records[place] for place in places.tolist()]
        rows = Predictions(
            np.array([self._index[one.message.member] for one in found], np.int64),
            [one.request_id for one in found],
            outputs,
            answers if answers.any() else None,
            at,
            columns.appended[places],
            columns.offsets[places],
            None,
            segments,
            frozenset(forwarded),
            _traces(records),
        )
        return Read(rows, records)


class _Found(NamedTuple):
    """A prediction read by itself; ``place`` is its record's in the columns."""

    place: int
    request_id: bytes
    message: Prediction
    moved: Forwarded | None


class RequestReader:
    """Reads the requests topic of one ensemble."""

    def __init__(self, members: Sequence[str]) -> None:
        self._index = {name: k for k, name in enumerate(members)}

    def read(self, topic: int, columns: Columns) -> tuple[ReadRequests | None, list[Refused]]:
        """Usable rows (None when there are none) and what is refused. N records in."""
        good: list[tuple[int, bytes, Request, Forwarded | None]] = []
        refused = []
        for place, record in enumerate(columns.records):
            try:
                message = decode(record.value, _decode_request)
                request_id = matching_key(record.key, message.request_id)
                self._mask(message)
                good.append((place, request_id, message, forwarded_from(record)))
            except RecordError as error:
                refused.append(
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error, topic)
                )
        if not good:
            return None, refused
        places = np.array([place for place, *_ in good])
        appended = columns.appended[places]
        rows = Requests(
            topic,
            [request_id for _, request_id, *_ in good],
            np.array([_asked_at(m, moved) for *_, m, moved in good], np.int64),
            appended,
            columns.offsets[places],
            np.array([self._mask(m) for _, _, m, _ in good], np.uint64),
            np.array([m.deadline_ms or 0 for _, _, m, _ in good], np.int64),
            {row: m.segment for row, (_, _, m, _) in enumerate(good) if m.segment is not None},
            frozenset(row for row, (*_, moved) in enumerate(good) if moved is not None),
            _traces([columns.records[place] for place in places.tolist()]),
        )
        return ReadRequests(rows, [columns.records[place] for place in places.tolist()]), refused

    def _mask(self, message: Request) -> int:
        mask = 0
        for i, name in enumerate(message.members or ()):
            if name not in self._index:
                raise RecordError("unknown-member", f"members[{i}]: {_short(name)} is not in this ensemble")
            mask |= 1 << self._index[name]
        return mask


def _together(parts: Sequence[tuple[int, Columns]]) -> tuple[int | NDArray[np.int64], Columns]:
    """The records of several topics as one list, with the topic of each; one number for a single topic."""
    if len(parts) == 1:
        return parts[0]
    topics = np.repeat([topic for topic, _ in parts], [len(columns.records) for _, columns in parts])
    return topics, Columns(
        list(chain.from_iterable(columns.records for _, columns in parts)),
        np.concatenate([columns.offsets for _, columns in parts]),
        np.concatenate([columns.appended for _, columns in parts]),
    )


def _asked_at(message: Request, moved: Forwarded | None) -> int:
    if message.at is not None:
        return message.at
    return NO_TIME if moved is None else moved.appended


def decode(value: bytes | None, decoder: Any) -> Any:
    """Decode a record's value, with errors put in words.

    Raises:
        RecordError: what is wrong and where in the record.
    """
    if not value:
        raise RecordError("empty-value", "the record has no value")
    try:
        return decoder(value)
    except msgspec.ValidationError as error:
        text = str(error)
        path = text.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in text else ""
        reason = "wrong-version" if path == "version" else "wrong-kind" if path == "kind" else "wrong-field"
        if "missing required field" in text:
            reason = "missing-field"
        raise RecordError(reason, text) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError("not-json", f"{error}; the value starts with {_short(value)}") from None


def matching_key(key: bytes | None, request_id: str) -> bytes:
    """The request id as bytes; a null key is allowed, another key is not.

    Raises:
        RecordError: ``key-mismatch`` or an id that cannot be written as UTF-8.
    """
    try:
        written = request_id.encode()
    except UnicodeEncodeError:
        raise RecordError("wrong-field", "request_id: not valid Unicode") from None
    if key is not None and key != written:
        raise RecordError("key-mismatch", f"the key {_short(key)} is not the request_id {_short(request_id)}")
    return written


def forwarded_from(record: Any) -> Forwarded | None:
    """Where a forwarded record was first written; None for one that was not forwarded.

    Raises:
        RecordError: the header is there but cannot be read.
    """
    for name, value in record.headers:
        if name == HEADER_FORWARDED:
            try:
                return _decode_forwarded(value or b"")
            except msgspec.DecodeError as error:
                raise RecordError("wrong-header", f"header {HEADER_FORWARDED}: {error}") from None
    return None


def _only_traces(records: Sequence[Any]) -> dict[int, bytes]:
    """Trace context by row.

    Raises:
        ValueError: a record has a header that means something else to us.
    """
    names = {name for record in records for name, _ in record.headers}
    if names & _MEANING:
        raise ValueError("headers to be looked at")
    return _traces(records)


def _traces(records: Sequence[Any]) -> dict[int, bytes]:
    return {
        row: value
        for row, record in enumerate(records)
        for name, value in record.headers
        if name == HEADER_TRACE and value
    }


def _short(text: str | bytes) -> str:
    shown = repr(text[:_SHOWN])
    return shown if len(text) <= _SHOWN else f"{shown}… ({len(text)} long)"
