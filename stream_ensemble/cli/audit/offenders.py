"""Who the offenders are: the auditor keeps hashes, so the ids are read again from where the records stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.cli.audit import decoding
from stream_ensemble.cli.audit.rows import parts
from stream_ensemble.cli.audit.span import Topics
from stream_ensemble.cli.audit.tally import Offence, Offender
from stream_ensemble.kafka.tail import LogReader

_IN_FUSED = (
    Offence.TWICE,
    Offence.OF_NOTHING,
    Offence.INCOMPLETE,
    Offence.WRONG_SOURCE,
    Offence.OTHER_OUTPUT,
)


class Named(msgspec.Struct, frozen=True, omit_defaults=True):
    """An offender for people: what, whose, and the record to look at."""

    offence: str
    partition: int
    request_id: str | None = None
    topic: str | None = None
    offset: int | None = None
    row: int = 0
    detail: str = ""

    def __str__(self) -> str:
        if self.topic is None:
            return f"partition {self.partition}: {self.detail}"
        at = f"partition {self.partition} offset {self.offset}" + (f" row {self.row}" if self.row else "")
        return f"{self.request_id or '(no id)'}: {self.topic} {at}"


async def named(reader: LogReader, topics: Topics, offenders: Sequence[Offender]) -> list[Named]:
    """Each with its request id, where the record still is there and has one."""
    return [await _named(reader, topics, offender) for offender in offenders]


async def _named(reader: LogReader, topics: Topics, offender: Offender) -> Named:
    if offender.offence is Offence.COUNT:
        return Named(offender.offence, offender.partition, detail=offender.detail)
    number, offset, row = parts(offender.place)
    if offender.offence in _IN_FUSED:
        topic = topics.names.fused
    elif offender.offence is Offence.LEARNED_TWICE:
        topic = topics.names.applied
    else:
        topic = topics.inputs[number]
    request_id = None
    async for columns in reader.read(TopicPartition(topic, offender.partition), offset, offset + 1):
        request_id = _id_in(columns.records[0], row)
    return Named(offender.offence, offender.partition, request_id, topic, offset, row)


def _id_in(record: Any, row: int) -> str | None:
    """The request id of a row; the key where the value cannot be read."""
    found = decoding.ids_in(record)
    if row < len(found):
        return found[row]
    return None if record.key is None else bytes(record.key).decode("utf-8", "replace")
