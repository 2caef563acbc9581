"""The applied topic: what became of each label, by label key, written in the learner's transactions; and
what shadows said of a request after its end, by request id and member.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.keys import from_bytes, has_part, label_key, taken_apart, to_bytes
from stream_ensemble.core.labels.records import Verdict
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.messages import UNREADABLE, Applied, Trial

#: On a parked label: the record it came in, for the dead-letter topic if its fused record never comes.
HEADER_ORIGINAL = "stream-ensemble-original"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Applied).decode
_decode_trial = msgspec.json.Decoder(Trial).decode
#: Begins the key of a trial: such a byte stands in no request id's UTF-8.
_TRIAL_KEY = b"\xff"
_new_outgoing = partial(tuple.__new__, Outgoing)


def encode_all(tp: TopicPartition, verdicts: Mapping[str, Verdict | None]) -> list[Outgoing]:
    """``encode_applied`` of each. Those learned differ in few fields, so the rest is written once."""
    records = []
    for key, verdict in verdicts.items():
        if verdict is None or not verdict.learned or has_part(key):
            records.append(encode_applied(tp, key, verdict))
            continue
        topic, partition, offset, row = verdict.origin
        begin, label, origin, end = _around(
            verdict.label, verdict.revision, verdict.weight, topic, partition, verdict.generation
        )
        name = _encode(key)
        value = b"%b%b%b%d%b%d,%d%b" % (begin, name, label, verdict.appended, origin, offset, row, end)
        records.append(_new_outgoing((tp, key.encode(), value, ())))
    return records


@lru_cache(1024)
def _around(
    label: str, revision: int, weight: float, topic: str, partition: int, generation: int
) -> tuple[bytes, ...]:
    """What stands before, between and behind request id, append time, and offset and row of the origin."""
    like = Verdict(True, label, revision, weight, -1, (topic, partition, -2, -3), generation)
    # No text has these in it: there every quotation mark is behind a backslash.
    begin, _, rest = _value("", like).partition(b'""')
    between, _, rest = rest.partition(b'"appended":-1,')
    origin, _, end = rest.rpartition(b"-2,-3]")
    return begin, between + b'"appended":', b"," + origin, b"]" + end


def encode_applied(tp: TopicPartition, key: str, verdict: Verdict | None) -> Outgoing:
    """The record that says it; None, a label given up, is a tombstone."""
    if verdict is None:
        return Outgoing(tp, to_bytes(key), None)
    headers = () if verdict.learned else ((HEADER_ORIGINAL, verdict.record),)
    return Outgoing(tp, to_bytes(key), _value(key, verdict), headers)


def _value(key: str, verdict: Verdict) -> bytes:
    request_id, part = taken_apart(key)
    value = Applied(
        version=1,
        kind="applied",
        request_id=request_id,
        state="learned" if verdict.learned else "parked",
        label=verdict.label,
        part=part,
        revision=verdict.revision,
        weight=verdict.weight,
        appended=verdict.appended,
        origin=verdict.origin,
        generation=verdict.generation,
    )
    return _encode(value)


def encode_trial(tp: TopicPartition, trial: Trial) -> Outgoing:
    """The record that keeps what a shadow said late."""
    key = _TRIAL_KEY + trial.request_id.encode() + _TRIAL_KEY + trial.member.encode()
    return Outgoing(tp, key, _encode(trial))


def is_trial(record: Any) -> bool:
    """Is it a trial, and no verdict?"""
    return bool(record.key) and record.key.startswith(_TRIAL_KEY)


def decode_trial(record: Any) -> Trial:
    """Read :func:`encode_trial` back.

    Raises:
        StateError: it cannot be read.
    """
    try:
        return _decode_trial(record.value or b"")
    except UNREADABLE as error:
        raise StateError(f"a trial in the applied topic cannot be read: {error}") from error


def decode_applied(record: Any) -> tuple[str, Verdict | None]:
    """Label key and verdict of a record of the applied topic.

    Raises:
        StateError: it cannot be read.
    """
    if not record.key:
        raise StateError("an applied record without a key")
    try:
        if record.value is None:
            return from_bytes(record.key), None
        applied = _decode(record.value)
    except UNREADABLE as error:
        raise StateError(f"an applied record cannot be read: {error}") from error
    original = next((value for name, value in record.headers if name == HEADER_ORIGINAL), None)
    verdict = Verdict(
        learned=applied.state == "learned",
        label=str(applied.label),
        revision=applied.revision,
        weight=applied.weight,
        appended=applied.appended,
        origin=applied.origin,
        generation=applied.generation,
        record=original or b"",
    )
    return label_key(applied.request_id, applied.part), verdict
