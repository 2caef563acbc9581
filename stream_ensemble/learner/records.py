"""The records a flush writes, each made from what it is about."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import DeadLabel
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.learner.applied_topic import encode_all, encode_trial
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.original import Original, unpack
from stream_ensemble.learner.reading import Misplaced
from stream_ensemble.learner.standing import Step
from stream_ensemble.messages import (
    HEADER_DEAD_LETTER,
    HEADER_FORMAT,
    HEADER_FORWARDED,
    DeadLetter,
    Forwarded,
)
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.weights_topic import encode_controls, encode_key, encode_weights


def of_flush(ensemble: LearnedEnsemble, partition: int, changes: Changes, step: Step) -> list[Outgoing]:
    """What became of labels, those that cannot be used, and the contributions that changed."""
    applied = ensemble.applied(partition)
    records = encode_all(applied, changes.verdicts)
    records += (encode_trial(applied, trial) for late in changes.late.values() for trial in late.values())
    records += (dead_label(ensemble, dead) for dead in changes.dead)
    records += _weights(ensemble, partition, step)
    return records


def refused(ensemble: LearnedEnsemble, tp: TopicPartition, item: Refused) -> Outgoing:
    """A record that cannot be read, for dead-letter."""
    record = item.record
    header = DeadLetter(
        reason=item.error.reason,
        detail=item.error.detail,
        topic=tp.topic,
        partition=tp.partition,
        offset=item.offset,
        row=item.row,
        appended=item.appended,
    )
    return _dead(ensemble, Original(record.key, record.value, list(record.headers)), header)


def dead_label(ensemble: LearnedEnsemble, dead: DeadLabel) -> Outgoing:
    """A label that cannot be used, for dead-letter: its record, or its row alone."""
    topic, partition, offset, row = dead.origin
    header = DeadLetter(
        reason=dead.reason,
        detail=dead.detail,
        topic=topic,
        partition=partition,
        offset=offset,
        row=row,
        appended=dead.appended,
    )
    return _dead(ensemble, unpack(dead.record), header)


def forwarded(ensemble: LearnedEnsemble, item: Misplaced) -> Outgoing:
    """A label on its way to its canonical partition, saying where and when it was first written."""
    label, original = item.label, unpack(item.label.original())
    topic, partition, offset, row = label.origin
    origin = Forwarded(topic=topic, partition=partition, offset=offset, row=row, appended=label.appended)
    headers = [*original.headers, (HEADER_FORWARDED, msgspec.json.encode(origin))]
    columnar = any(name == HEADER_FORMAT for name, _ in headers)
    key = None if columnar else label.request_id.encode()
    return Outgoing(ensemble.feedback(item.partition), key, original.value, headers)


def _dead(ensemble: LearnedEnsemble, original: Original, header: DeadLetter) -> Outgoing:
    headers = [*original.headers, (HEADER_DEAD_LETTER, msgspec.json.encode(header))]
    return Outgoing(TopicPartition(ensemble.topics.dead_letter, 0), original.key, original.value, headers)


def _weights(ensemble: LearnedEnsemble, partition: int, step: Step) -> Iterator[Outgoing]:
    tp = ensemble.weights(partition)
    for segment, part in step.changed.items():
        key = Key(ensemble.task, segment)
        value = encode_weights(key, partition, step.standing.order, ensemble.algorithm.name, part)
        yield Outgoing(tp, encode_key(key), value)
    if step.controlled:
        value = encode_controls(partition, step.standing.order, step.standing.controls)
        yield Outgoing(tp, encode_key(CONTROLS), value)
