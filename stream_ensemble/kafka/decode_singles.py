"""From single predictions (a JSON message each) to the join's columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.records import NO_TIME, Answer, Predictions
from stream_ensemble.errors import RecordError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.decode import (
    Expected,
    Read,
    Refused,
    decode,
    forwarded_from,
    matching_key,
    traces_of,
)
from stream_ensemble.messages import (
    HEADER_FORWARDED,
    UNREADABLE,
    Forwarded,
    Milliseconds,
    Name,
    Prediction,
    RequestId,
)


class Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """What most predictions say, and nothing else: no field is left to be looked at.

    ``member`` is one of those of the topic, as the decoder makes sure.
    """

    version: Literal[1]
    kind: Literal["prediction"]
    request_id: RequestId
    member: Name
    output: list[float]
    at: Milliseconds = NO_TIME


def plain_decoder(members: Sequence[str]) -> Callable[[bytes], Plain]:
    """Of predictions of these members, whose names are compared as they are read, without a string each."""
    fields = [("member", Literal[tuple(members)])]
    kind: Any = msgspec.defstruct("_PlainOf", fields, bases=(Plain,), gc=False)
    return cast("Callable[[bytes], Plain]", msgspec.json.Decoder(kind).decode)


def plain_decoders(expected: Expected) -> dict[int, Callable[[bytes], Plain]]:
    """A decoder for the predictions of each input topic."""
    topics = expected.topic_of.tolist()
    return {
        topic: plain_decoder([name for name, k in expected.number_of.items() if topics[k] == topic])
        for topic in set(topics)
    }


_decode_prediction: Final = msgspec.json.Decoder(Prediction).decode
_key = attrgetter("key")
_value = attrgetter("value")
_headers = attrgetter("headers")
_at = attrgetter("at")
_member = attrgetter("member")
_request_id = attrgetter("request_id")
#: So many records are decoded at a time.
_BLOCK: Final = 2048
#: Headers that change how a record is read.
_MEANING: Final = {HEADER_FORWARDED}


class SingleReader:
    """Reads single predictions of one ensemble."""

    def __init__(self, expected: Expected) -> None:
        index, topic_of, domain = expected
        self._values, self._domain = expected.values, domain
        self._expected, self._index, self._topic_of = expected, index, topic_of
        topics = topic_of.tolist()
        self._alone = {topics[k]: k for k in index.values() if topics.count(topics[k]) == 1}
        self._decoders = plain_decoders(expected)
        self._everyone = plain_decoder(list(index))

    def read(self, topics: int | NDArray[np.int64], columns: Columns) -> tuple[list[Read], list[Refused]]:
        """What can be used of N records, and what is refused; ``topics`` is the topic of all or of each."""
        if not columns.records:
            return [], []
        try:
            return [self._read_all(topics, columns)], []
        except (*UNREADABLE, TypeError, ValueError, KeyError):
            return self.read_carefully(topics, columns)

    def _read_all(self, topics: int | NDArray[np.int64], columns: Columns) -> Read:
        """The fast way, for records that are all plain: an output, the id as key, no headers but a trace.

        Raises:
            ValueError, KeyError, TypeError, msgspec.DecodeError: not all are.
        """
        parts = [
            self._read_block(
                topics if isinstance(topics, int) else topics[begin : begin + _BLOCK],
                columns.records[begin : begin + _BLOCK],
            )
            for begin in range(0, len(columns.records), _BLOCK)
        ]
        one = parts[0] if len(parts) == 1 else _in_one(parts)
        rows = Predictions(
            one.members, one.keys, one.outputs, None, one.at, columns.appended, columns.offsets, None,
            one.segments, frozenset(), one.traces,
        )  # fmt: skip
        return Read(rows, columns.records)

    def _read_block(self, topics: int | NDArray[np.int64], records: Sequence[Any]) -> _Block:
        """Some of them: few enough that what was decoded is still in the caches when it is looked at."""
        messages, segments, plain = self._messages(topics, records)
        keys = list(map(_key, records))
        # One comparison for the whole block; counting the separators rules out an id that contains one.
        written = "\0".join(list(map(_request_id, messages))).encode()
        if written != b"\0".join(keys) or written.count(b"\0") != len(keys) - 1:
            raise ValueError("a key that is not the id")
        at = np.fromiter(map(_at, messages), np.int64, len(keys))
        return _Block(
            self._members(topics, messages, plain),
            keys,
            self._outputs(messages),
            at,
            segments,
            _only_traces(records) if any(map(_headers, records)) else {},
        )

    def _messages(
        self, topics: int | NDArray[np.int64], records: Sequence[Any]
    ) -> tuple[Sequence[Plain | Prediction], dict[int, str], bool]:
        """The messages of N records, which all have an output and no error, the segments by place, and
        whether all are plain.

        Raises:
            ValueError, msgspec.DecodeError: not all do.
        """
        values = list(map(_value, records))
        decode_plain = self._decoders[topics] if isinstance(topics, int) else self._everyone
        try:
            return list(map(decode_plain, values)), {}, True
        except msgspec.ValidationError:
            messages = list(map(_decode_prediction, values))
        if any(map(_no_output, messages)):
            raise ValueError("an answer without an output")
        for message in messages:
            if message.at is None:
                message.at = NO_TIME
        return messages, {i: m.segment for i, m in enumerate(messages) if m.segment is not None}, False

    def _members(
        self, topics: int | NDArray[np.int64], messages: Sequence[Plain | Prediction], plain: bool
    ) -> int | NDArray[np.int64]:
        if plain and isinstance(topics, int) and topics in self._alone:
            return self._alone[topics]
        members = np.fromiter(map(self._index.__getitem__, map(_member, messages)), np.int64, len(messages))
        if (self._topic_of[members] != topics).any():
            raise ValueError("a member of another topic")
        return self._alone[topics] if isinstance(topics, int) and topics in self._alone else members

    def _outputs(self, messages: Sequence[Plain | Prediction]) -> NDArray[np.float64]:
        n, values = len(messages), self._values
        rows: list[list[float]] = [m.output for m in messages]  # type: ignore[misc]
        if set(map(len, rows)) != {values}:
            raise ValueError("an output of another length")
        outputs = np.fromiter(chain.from_iterable(rows), np.float64, n * values).reshape(n, values)
        if not self._domain.are_outputs(outputs).all():
            raise ValueError("an output that is none of this task")
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
                found.append(_Found(place, *self.one(topic, record)))
            except RecordError as error:
                refused.append(
                    Refused(record, int(columns.offsets[place]), int(columns.appended[place]), error, topic)
                )
        return [self._gather(found, columns)] if found else [], refused

    def one(self, topic: int, record: Any) -> tuple[bytes, Prediction, Forwarded | None]:
        """The request id, the message, and where a forwarded one was first written.

        Raises:
            RecordError: the record cannot be used.
        """
        message = decode(record.value, _decode_prediction)
        request_id = matching_key(record.key, message.request_id)
        self._expected.check_member(message.member, topic)
        said = (message.output is not None) + message.abstain + (message.error is not None)
        if said != 1:
            raise RecordError("not-one-answer", "output, abstain, error: exactly one must be given")
        if message.output is not None:
            self._expected.domain.check(message.output)
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


class _Block(NamedTuple):
    """Some records as columns; segments and traces by place."""

    members: int | NDArray[np.int64]
    keys: list[bytes]
    outputs: NDArray[np.float64]
    at: NDArray[np.int64]
    segments: dict[int, str]
    traces: dict[int, bytes]


def _in_one(blocks: Sequence[_Block]) -> _Block:
    begins = range(0, _BLOCK * len(blocks), _BLOCK)
    alone = isinstance(blocks[0].members, int)
    return _Block(
        blocks[0].members if alone else np.concatenate([block.members for block in blocks]),
        list(chain.from_iterable(block.keys for block in blocks)),
        np.concatenate([block.outputs for block in blocks]),
        np.concatenate([block.at for block in blocks]),
        {b + i: name for b, block in zip(begins, blocks, strict=True) for i, name in block.segments.items()},
        {b + i: trace for b, block in zip(begins, blocks, strict=True) for i, trace in block.traces.items()},
    )


class _Found(NamedTuple):
    """A prediction read by itself; ``place`` is its record's in the columns."""

    place: int
    request_id: bytes
    message: Prediction
    moved: Forwarded | None


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
