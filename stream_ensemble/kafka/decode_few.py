"""A handful of single predictions read without arrays; see ``core/join/few``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from stream_ensemble.core.join.records import NO_TIME, Single
from stream_ensemble.kafka.chunks import Chunk
from stream_ensemble.kafka.decode import Expected
from stream_ensemble.kafka.decode_singles import Plain, plain_decoders
from stream_ensemble.messages import HEADER_FORMAT, HEADER_FORWARDED, HEADER_TRACE, UNREADABLE, Prediction

#: Headers that make a record another thing than a single prediction that came straight here.
_MEANING = {HEADER_FORMAT, HEADER_FORWARDED}

_decode_prediction = msgspec.json.Decoder(Prediction).decode


class FewReader:
    """Reads the records of one ensemble that are plain: an output, the id as key."""

    def __init__(self, expected: Expected) -> None:
        self._number_of, topic_of, domain = expected
        self._topic_of = topic_of.tolist()
        self._surely = domain.surely
        self._decoders = plain_decoders(expected)

    def read(self, parts: Sequence[tuple[int, Chunk]]) -> list[Single] | None:
        """The predictions of some input topics in log order; None when one is not plain."""
        found = []
        for topic, chunk in parts:
            for records, appended in chunk.runs():
                for record in records:
                    one = self._one(topic, record, record.timestamp if appended is None else appended)
                    if one is None:
                        return None
                    found.append(one)
        return found

    def _one(self, topic: int, record: Any, appended: int) -> Single | None:
        trace = None
        for name, value in record.headers:
            if name in _MEANING:
                return None
            if name == HEADER_TRACE and value:
                trace = value
        try:
            message = self._message(topic, record.value)
            request_id = record.key
            if message.request_id.encode() != request_id:
                return None
        except (*UNREADABLE, TypeError, ValueError):
            return None
        member = self._number_of.get(message.member)
        output = message.output
        if member is None or output is None or not self._surely(output):
            return None
        segment = None
        if isinstance(message, Prediction):
            if message.abstain or message.error is not None or self._topic_of[member] != topic:
                return None
            segment = message.segment
        at = NO_TIME if message.at is None else message.at
        return Single(member, request_id, output, at, appended, record.offset, segment, trace)

    def _message(self, topic: int, value: bytes) -> Plain | Prediction:
        try:
            return self._decoders[topic](value)
        except msgspec.ValidationError:
            return _decode_prediction(value)
