"""From Kafka records to the join's columns; what cannot be read is refused with a reason a person
understands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any, Final

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


@dataclass(slots=True)
class Refused:
    """A record for the dead-letter topic."""

    record: Any
    offset: int
    appended: int
    error: RecordError


@dataclass(slots=True)
class Read:
    """Rows of one member that can be used, and the records they came from, in the same order."""

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
        self._topic_of = list(topic_of)
        self._values = values
        self._tolerance = sum_tolerance
        self._alone = {
            topic: name
            for name, topic in zip(members, topic_of, strict=True)
            if list(topic_of).count(topic) == 1
        }

    def read(self, topic: int, columns: Columns) -> tuple[list[Read], list[Refused]]:
        """Rows by member, and what is refused. N records in."""
        records = columns.records
        try:
            messages = list(map(_decode_prediction, map(_value, records)))
            keys = list(map(_key, records))
            if self._plain(topic, messages, keys, records):
                outputs = self._outputs(messages)
                at = self._times(messages)
                member = self._index[messages[0].member]
                segments = {}
                if any(map(attrgetter("segment"), messages)):
                    segments = {i: m.segment for i, m in enumerate(messages) if m.segment is not None}
                rows = Predictions(
                    topic, member, keys, outputs, None, at, columns.appended, columns.offsets, None, segments
                )
                return [Read(rows, records)], []
        except (msgspec.DecodeError, TypeError, ValueError, UnicodeError):
            pass
        return self._read_one_by_one(topic, columns)

    def _plain(
        self, topic: int, messages: list[Prediction], keys: list[bytes | None], records: list[Any]
    ) -> bool:
        """Is every record of the one member of this topic, with an output, its id as key, and no headers?"""
        name = self._alone.get(topic)
        if name is None or set(map(attrgetter("member"), messages)) != {name}:
            return False
        if any(map(_headers, records)) or None in keys:
            return False
        if any(m.abstain or m.error is not None for m in messages):
            return False
        # One comparison for the whole chunk; counting the separators rules out an id that contains one.
        written = "\0".join([m.request_id for m in messages]).encode()
        return written == b"\0".join(keys) and written.count(b"\0") == len(keys) - 1  # type: ignore[arg-type]

    def _outputs(self, messages: list[Prediction]) -> NDArray[np.float64]:
        n, values = len(messages), self._values
        rows: list[list[float]] = [m.output for m in messages]  # type: ignore[misc]
        if set(map(len, rows)) != {values}:
            raise ValueError("an output of another length")
        outputs = np.fromiter(chain.from_iterable(rows), np.float64, n * values).reshape(n, values)
        if not (outputs.min() >= 0.0 and np.abs(outputs.sum(axis=1) - 1.0).max() <= self._tolerance):
            raise ValueError("an output that is no distribution")
        return outputs

    @staticmethod
    def _times(messages: list[Prediction]) -> NDArray[np.int64]:
        return np.array([NO_TIME if m.at is None else m.at for m in messages], np.int64)

    # --- the slow way: mixed members, headers, errors ---------------------------------------------

    def _read_one_by_one(self, topic: int, columns: Columns) -> tuple[list[Read], list[Refused]]:
        by_member: dict[int, list[tuple[int, bytes, Prediction, Forwarded | None]]] = {}
        refused = []
        for place, record in enumerate(columns.records):
            try:
                request_id, message, forwarded = self._one(topic, record)
            except RecordError as error:
                refused.append(
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error)
                )
                continue
            by_member.setdefault(self._index[message.member], []).append(
                (place, request_id, message, forwarded)
            )
        return [self._gather(topic, member, found, columns) for member, found in by_member.items()], refused

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

    def _gather(
        self,
        topic: int,
        member: int,
        found: list[tuple[int, bytes, Prediction, Forwarded | None]],
        columns: Columns,
    ) -> Read:
        places = np.array([place for place, *_ in found])
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
        rows = Predictions(
            topic,
            member,
            [request_id for _, request_id, *_ in found],
            outputs,
            answers if answers.any() else None,
            at,
            columns.appended[places],
            columns.offsets[places],
            None,
            segments,
            frozenset(forwarded),
            _traces([columns.records[place] for place in places.tolist()]),
        )
        return Read(rows, [columns.records[place] for place in places.tolist()])


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
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error)
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
