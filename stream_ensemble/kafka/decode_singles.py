"""From single predictions (a JSON message each) to the join's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.columnar.refusals import short
from stream_ensemble.core.join.records import NO_TIME, Answer, Predictions
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import Read, Refused, decode, forwarded_from, matching_key, traces_of
from stream_ensemble.kafka.distributions import are_distributions, check_distribution
from stream_ensemble.messages import HEADER_FORWARDED, Forwarded, Milliseconds, Name, Prediction, RequestId


class _Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What most predictions say, and nothing else: no field is left to be looked at."""

    version: Literal[1]
    kind: Literal["prediction"]
    request_id: RequestId
    member: Name
    output: list[float]
    at: Milliseconds | None = None


_decode_plain: Final = msgspec.json.Decoder(_Plain).decode
_decode_prediction: Final = msgspec.json.Decoder(Prediction).decode
_key = attrgetter("key")
_value = attrgetter("value")
_headers = attrgetter("headers")
_member = attrgetter("member")
_request_id = attrgetter("request_id")
#: Headers that change how a record is read.
_MEANING: Final = {HEADER_FORWARDED}


class SingleReader:
    """Reads single predictions of one ensemble.

    Args:
        index: number of each member, by name.
        topic_of: input topic index by member.
        values: numbers per output (C classes).
        sum_tolerance: how far a distribution may be from summing to 1.
    """

    def __init__(
        self, index: Mapping[str, int], topic_of: NDArray[np.int64], values: int, sum_tolerance: float
    ) -> None:
        self._index = index
        self._topic_of = topic_of
        self._values = values
        self._tolerance = sum_tolerance
        topics = topic_of.tolist()
        self._alone = {topics[k]: name for name, k in index.items() if topics.count(topics[k]) == 1}

    def read(self, topics: int | NDArray[np.int64], columns: Columns) -> tuple[list[Read], list[Refused]]:
        """What can be used of N records, and what is refused; ``topics`` is the topic of all or of each."""
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
        messages, segments = _messages(records)
        keys = list(map(_key, records))
        # One comparison for the whole chunk; counting the separators rules out an id that contains one.
        written = "\0".join(list(map(_request_id, messages))).encode()
        if written != b"\0".join(keys) or written.count(b"\0") != len(keys) - 1:
            raise ValueError("a key that is not the id")
        traces = _only_traces(records) if any(map(_headers, records)) else {}
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
        self, topics: int | NDArray[np.int64], messages: Sequence[_Plain | Prediction]
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

    def _outputs(self, messages: Sequence[_Plain | Prediction]) -> NDArray[np.float64]:
        n, values = len(messages), self._values
        rows: list[list[float]] = [m.output for m in messages]  # type: ignore[misc]
        if set(map(len, rows)) != {values}:
            raise ValueError("an output of another length")
        outputs = np.fromiter(chain.from_iterable(rows), np.float64, n * values).reshape(n, values)
        if not are_distributions(outputs, self._tolerance).all():
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
            raise RecordError("unknown-member", f"member: {short(message.member)} is not in this ensemble")
        if self._topic_of[member] != topic:
            raise RecordError("wrong-topic", f"member: {message.member} does not publish to this topic")
        said = (message.output is not None) + message.abstain + (message.error is not None)
        if said != 1:
            raise RecordError("not-one-answer", "output, abstain, error: exactly one must be given")
        if message.output is not None:
            check_distribution(message.output, self._values, self._tolerance)
        return request_id, message, forwarded_from(record)

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
            traces_of(records),
        )
        return Read(rows, records)


class _Found(NamedTuple):
    """A prediction read by itself; ``place`` is its record's in the columns."""

    place: int
    request_id: bytes
    message: Prediction
    moved: Forwarded | None


def _messages(records: Sequence[Any]) -> tuple[Sequence[_Plain | Prediction], dict[int, str]]:
    """The messages of N records, which all have an output and no error, and the segments by place.

    Raises:
        ValueError, msgspec.DecodeError: not all do.
    """
    values = list(map(_value, records))
    try:
        return list(map(_decode_plain, values)), {}
    except msgspec.ValidationError:
        messages = list(map(_decode_prediction, values))
    if any(map(_no_output, messages)):
        raise ValueError("an answer without an output")
    return messages, {i: m.segment for i, m in enumerate(messages) if m.segment is not None}


def _no_output(message: Prediction) -> bool:
    return message.abstain or message.error is not None


def _only_traces(records: Sequence[Any]) -> dict[int, bytes]:
    """Trace context by row.

    Raises:
        ValueError: a record has a header that means something else to us.
    """
    names = {name for record in records for name, _ in record.headers}
    if names & _MEANING:
        raise ValueError("headers to be looked at")
    return traces_of(records)
