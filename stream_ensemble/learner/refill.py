"""What the local store must hold of partition p, filled from the applied and the fused topic."""

from __future__ import annotations

import logging
from functools import partial

from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.decode import Refused
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner import answers
from stream_ensemble.learner.applied_topic import decode_applied, decode_trial, is_trial
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.stores.labels import LabelStore, Position

log = logging.getLogger(__name__)

#: Credit blocks stand again at least once a minute; an hour more than the labels need is ample.
KEYFRAME_MARGIN_MS = 3_600_000
#: The stamp of a store that is being filled and must not be trusted if that is broken off.
_FILLING = ""


async def refill(
    reader: LogReader,
    ensemble: LearnedEnsemble,
    p: int,
    store: LabelStore,
    begin: Position,
    *,
    last_owner: str,
) -> Position:
    """Bring the store to ``begin``; what it holds is trusted only if its owner was the last to commit.

    Args:
        begin: where this owner goes on; its applied offset is found here.
        last_owner: who committed last; empty if nobody ever did.

    Returns:
        Where the store is now, under this owner's stamp.
    """
    held = store.position()
    if held is None or not last_owner or held.owner != last_owner:
        store.clear()
        held = None
    filling = Position(_FILLING, 0, 0, 0)
    # Unstamped first: a store that is half filled when this process dies belongs to nobody.
    store.write(Changes(store), filling)
    applied = await _fill_applied(reader, ensemble.applied(p), store, held.applied if held else 0, filling)
    replay_from = held.fused if held else await _replay_from(reader, ensemble, p, begin)
    fused_until = held.fused_until if held else 0
    fused_until = await _fill_answers(
        reader, ensemble, p, store, (replay_from, begin.fused), filling, fused_until
    )
    position = Position(begin.owner, begin.fused, begin.feedback, applied, fused_until)
    store.write(Changes(store), position)
    return position


async def _fill_applied(
    reader: LogReader, tp: TopicPartition, store: LabelStore, start: int, filling: Position
) -> int:
    begin, end = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, max(begin, start), end):
        changes = Changes(store)
        for record in columns.records:
            try:
                if is_trial(record):
                    changes.keep_trial(decode_trial(record))
                else:
                    changes.decide(*decode_applied(record))
            except StateError as error:
                log.error("%s partition %d offset %d: %s", tp.topic, tp.partition, record.offset, error)
        store.write(changes, filling)
    return end


async def _replay_from(reader: LogReader, ensemble: LearnedEnsemble, p: int, begin: Position) -> int:
    """From which offset on a fused record may still be needed by a label that is to come."""
    feedback, fused = ensemble.feedback(p), ensemble.fused(p)
    _, end = await reader.begin_and_end(feedback)
    oldest_label = await reader.first_time(feedback, begin.feedback, end)
    if oldest_label is None:
        oldest_label = await reader.last_time(fused)
    if oldest_label is None:
        return begin.fused
    since = oldest_label - ensemble.rules.label_horizon_ms - KEYFRAME_MARGIN_MS
    start = await reader.offset_at(fused, since)
    return begin.fused if start is None else start


async def _fill_answers(
    reader: LogReader,
    ensemble: LearnedEnsemble,
    p: int,
    store: LabelStore,
    span: tuple[int, int],
    filling: Position,
    fused_until: int,
) -> int:
    tp = ensemble.fused(p)
    begin, _ = await reader.begin_and_end(tp)
    async for columns in reader.read(tp, max(begin, span[0]), span[1]):
        changes = Changes(store)
        answers.keep_all(changes, ensemble.rules, columns, partial(_say_refused, tp))
        fused_until = max(fused_until, int(columns.appended.max()))
        store.write(changes, filling)
    return fused_until


def _say_refused(tp: TopicPartition, item: Refused) -> None:
    log.warning("%s partition %d offset %d: %s", tp.topic, tp.partition, item.offset, item.error)
