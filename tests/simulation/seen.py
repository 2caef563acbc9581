"""What stands in the topics after a run, read without the product's readers: rows of predictions, answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.columnar import fuseds, predictions
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.messages import (
    FORMAT_COLUMNS,
    HEADER_CREDIT,
    HEADER_DEAD_LETTER,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    HEADER_SOURCE,
    DeadLetter,
    Forwarded,
    Fused,
)
from tests.simulation.log import Batch, PartitionLog, Record
from tests.simulation.settings import MEMBERS, PARTITIONS

Origin = tuple[str, int, int, int]


class _Said(msgspec.Struct):
    request_id: str
    member: str
    at: int
    output: list[float] | None = None
    abstain: bool = False
    error: str | None = None


class _Labelled(msgspec.Struct):
    request_id: str
    label: str
    revision: int = 0


class Row(NamedTuple):
    """A prediction in the log. ``member`` -1: it cannot be used. ``forwarded``: where it came from."""

    origin: Origin
    request_id: bytes
    member: int
    awake: bool
    at: int
    appended: int
    forwarded: Origin | None


class Label(NamedTuple):
    """A label on its partition, with the time and place of the record it was first written in."""

    request_id: str
    label: str
    revision: int
    appended: int
    origin: Origin


class Answer(NamedTuple):
    """A terminal record, and with which epoch of its partition's producer it was written.

    It stands since (ms) it was appended, or its transaction committed.
    """

    partition: int
    epoch: int
    appended: int
    stands_since: int
    fused: Fused


_decode_said = msgspec.json.Decoder(_Said).decode
_decode_label = msgspec.json.Decoder(_Labelled).decode
_decode_fused = msgspec.json.Decoder(Fused).decode
_decode_origin = msgspec.json.Decoder(Forwarded).decode
_decode_dead = msgspec.json.Decoder(DeadLetter).decode


def header(record: Record, name: str) -> bytes | None:
    """The value of a header."""
    return next((value for key, value in record.headers if key == name), None) if record.headers else None


def origin_in(record: Record, name: str) -> Origin | None:
    """The place that a header names."""
    value = header(record, name)
    if value is None:
        return None
    found = _decode_origin(value)
    return found.topic, found.partition, found.offset, found.row


def rows(logs: Any, topic: str, members: frozenset[str]) -> Iterator[Row]:
    """All predictions in a topic, in log order."""
    for number in range(PARTITIONS):
        for batch, record in logs[TopicPartition(topic, number)].records():
            forwarded = origin_in(record, HEADER_FORWARDED)
            appended = batch.max_timestamp
            if header(record, HEADER_FORMAT) == FORMAT_COLUMNS:
                unpacked = predictions.unpack(record.value or b"")
                k = MEMBERS.index(unpacked.member)
                for row, request_id in enumerate(unpacked.ids):
                    assert unpacked.at is not None
                    place = (topic, number, record.offset, row)
                    yield Row(place, request_id, k, True, int(unpacked.at[row]), appended, forwarded)
                continue
            place = (topic, number, record.offset, 0)
            yield _single(record, place, members, appended, forwarded)


def _single(
    record: Record, place: Origin, members: frozenset[str], appended: int, forwarded: Origin | None
) -> Row:
    bad = Row(place, b"", -1, False, 0, appended, forwarded)
    try:
        said = _decode_said(record.value or b"")
    except msgspec.DecodeError:
        return bad
    request_id = said.request_id.encode()
    if said.member not in members or (record.key is not None and record.key != request_id):
        return bad
    if said.output is not None and abs(sum(said.output) - 1) > 1e-3:
        return bad
    awake = said.output is not None
    return Row(place, request_id, MEMBERS.index(said.member), awake, said.at, appended, forwarded)


def answers(logs: Any, topic: str) -> list[Answer]:
    """All terminal records, in log order."""
    found = []
    for number in range(PARTITIONS):
        log: PartitionLog = logs[TopicPartition(topic, number)]
        for batch, record in log.records():
            found += _answers(number, batch, record)
    return found


def _answers(number: int, batch: Batch, record: Record) -> list[Answer]:
    here = number, batch.epoch, batch.max_timestamp, batch.stands_since
    if header(record, HEADER_FORMAT) != FORMAT_COLUMNS:
        return [Answer(*here, _decode_fused(record.value or b""))]
    unpacked = fuseds.unpack(record.value or b"", header(record, HEADER_CREDIT))
    return [Answer(*here, fused) for fused in fuseds.records(unpacked, Fused)]


def labels(logs: Any, topic: str, number: int) -> list[Label]:
    """All labels of a partition that can be read and belong there, in log order."""
    found = []
    for batch, record in logs[TopicPartition(topic, number)].records():
        try:
            said = _decode_label(record.value or b"")
        except msgspec.DecodeError:
            continue
        origin, appended = (topic, number, record.offset, 0), batch.max_timestamp
        moved = header(record, HEADER_FORWARDED)
        if moved is not None:
            first = _decode_origin(moved)
            origin, appended = (first.topic, first.partition, first.offset, first.row), first.appended
        found.append(Label(said.request_id, said.label, said.revision, appended, origin))
    places = partitions_of([label.request_id.encode() for label in found], PARTITIONS).tolist()
    return [label for label, place in zip(found, places, strict=True) if place == number]


def dead(logs: Any, topic: str) -> list[tuple[Origin, str, Record]]:
    """All dead letters: where each stood, why, and the record."""
    found = []
    for _, record in logs[TopicPartition(topic, 0)].records():
        value = header(record, HEADER_DEAD_LETTER)
        assert value is not None
        said = _decode_dead(value)
        found.append(((said.topic, said.partition, said.offset, said.row), said.reason, record))
    return found


def late(logs: Any, topic: str) -> dict[Origin, int]:
    """Where the late predictions were written, and when they were last written to the late topic."""
    found = {}
    for number in range(PARTITIONS):
        for batch, record in logs[TopicPartition(topic, number)].records():
            place = origin_in(record, HEADER_SOURCE)
            assert place is not None
            found[place] = batch.max_timestamp
    return found
