"""What partition p must have learned, from its fused and feedback records alone, by the learner's own rules.

The same functions as in ``partition.py``, without a transaction, a group or a Redis: what they make of the
topics does not depend on how the two interleave, nor on when it is flushed; but for a label whose answer
comes only after the orphan horizon, which is given up when the learner looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from aiokafka.structs import TopicPartition

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import AlgorithmOver, Learned
from stream_ensemble.core.labels.matching import Charge, give_up_orphans, take_labels, take_trials
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.contribution import Contribution, Vector
from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.core.learning.magnitudes import WithMagnitudes, apart
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.chunks import Columns
from stream_ensemble.kafka.tail import LogReader
from stream_ensemble.learner import answers
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.reading import feedback_reader
from stream_ensemble.learner.refill import KEYFRAME_MARGIN_MS
from stream_ensemble.learner.slices import in_slices
from stream_ensemble.learner.standing import Standing
from stream_ensemble.messages import Control, ControlState
from stream_ensemble.stores.contributions import Order
from stream_ensemble.stores.labels import LabelStore, Position

_AT_ONCE = 20_000
_POSITION = Position("replay", 0, 0, 0)


@dataclass(slots=True)
class Replayed:
    """What came out for one partition.

    Attributes:
        generation: of the contributions.
        by_segment: what was learned.
        sizes: by segment and array, the sums of |increments|.
        controls: what its control records come to; None: the older ones are not there any more.
        counts: what became of labels, by word.
    """

    generation: int
    controls: ControlState | None = NOTHING
    by_segment: dict[str | None, Contribution] = field(default_factory=dict)
    sizes: dict[str | None, dict[str, Vector]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def corrected(self) -> bool:
        """Was a label ever replaced by another? Then a maximum may be that of either."""
        return bool(self.counts["corrected"] or self.counts["superseded"])


async def replay(ensemble: LearnedEnsemble, p: int, store: LabelStore, until: tuple[int, int]) -> Replayed:
    """Learn partition p from the beginning of its topics.

    Memory is bounded: what waits for labels is in ``store``, which must be empty.

    Args:
        until: offsets of fused p and feedback p to stop before.

    Raises:
        StateError: the topics do not begin at their beginning any more, and not before a reset either.
        ServerUnavailableError, KafkaError: Kafka does not answer.
    """
    state = _Replay(ensemble, p, store)
    fused, feedback = ensemble.inputs_of(p)
    async with (
        LogReader(ensemble.options, committed_only=True) as first,
        LogReader(ensemble.options, committed_only=True) as second,
    ):
        spans = await first.spans([fused, feedback])
        starts = {tp: min(spans[tp][0], end) for tp, end in zip((fused, feedback), until, strict=True)}
        both = in_step(
            first.read(fused, starts[fused], until[0]), second.read(feedback, starts[feedback], until[1])
        )
        async for is_fused, columns in both:
            state.take(fused if is_fused else feedback, columns)
    return state.done(starts)


async def in_step(
    fused: AsyncIterator[Columns], labels: AsyncIterator[Columns]
) -> AsyncIterator[tuple[bool, Columns]]:
    """Both logs as one, by append time, in portions of bounded size; True: fused records."""
    one, other = _portions(fused), _portions(labels)
    answered, labelled = await anext(one, None), await anext(other, None)
    while answered is not None or labelled is not None:
        if labelled is None or (answered is not None and _begin(answered) <= _begin(labelled)):
            assert answered is not None
            yield True, answered
            answered = await anext(one, None)
        else:
            yield False, labelled
            labelled = await anext(other, None)


async def _portions(log: AsyncIterator[Columns]) -> AsyncIterator[Columns]:
    async for columns in log:
        for part, _ in in_slices(columns, 0):
            yield part


def _begin(columns: Columns) -> int:
    return int(columns.appended[0])


class _Replay:
    """The learner's state while its topics are read again."""

    def __init__(self, ensemble: LearnedEnsemble, p: int, store: LabelStore) -> None:
        self._ensemble = ensemble
        self._fused = ensemble.fused(p)
        self._store = store
        self._reader = feedback_reader(ensemble, p)
        self._over = _with_magnitudes(ensemble.algorithm_over)
        self._standing = Standing(Learned(0, BySegment()), Order(0, 0, 0), epoch=1)
        self._fused_until = 0
        self._labels_until = 0
        self._counts: Counter[str] = Counter()
        #: Append times: of the first record of each topic; and of the reset that began a generation.
        self._first: dict[TopicPartition, int] = {}
        self._reset_at: dict[int, int] = {}

    def take(self, tp: TopicPartition, columns: Columns) -> None:
        """Learn from some records of fused p or feedback p."""
        changes = Changes(self._store)
        self._first.setdefault(tp, _begin(columns))
        charges, controls = (
            (self._take_answers(changes, columns), [])
            if tp == self._fused
            else self._take_labels(changes, columns)
        )
        while give_up_orphans(changes, self._ensemble.rules, self._fused_until, _AT_ONCE) == _AT_ONCE:
            pass
        step = self._standing.after(charges, changes, self._over, None, controls)
        self._standing = step.standing
        self._counts += changes.counts + step.counts
        self._store.write(changes, _POSITION)
        horizon = self._ensemble.rules.label_horizon_ms + KEYFRAME_MARGIN_MS
        self._store.expire(self._labels_until - horizon, _AT_ONCE)

    def done(self, starts: Mapping[TopicPartition, int]) -> Replayed:
        """What was learned from these offsets on.

        Raises:
            StateError: something that counts may have stood before them.
        """
        cut = [tp for tp, start in starts.items() if start > 0]
        for tp in cut:
            if not self._stands_before_reset(tp):
                raise StateError(
                    f"{tp.topic} partition {tp.partition} begins at offset {starts[tp]}: older records were "
                    "removed, so what was learned from them cannot be recomputed (after a reset it can, once "
                    "nothing older counts)"
                )
        standing = self._standing
        controls = None if cut else standing.controls
        replayed = Replayed(standing.learned.generation, controls, counts=self._counts)
        for segment, part in self._standing.learned.by_segment.items():
            replayed.by_segment[segment], replayed.sizes[segment] = apart(part)
        return replayed

    def _stands_before_reset(self, tp: TopicPartition) -> bool:
        """Does the topic still hold all that counts since the last reset?

        What was fused with weights of this generation was so after its reset, and a label for it may have
        come before it by no more than the orphan horizon.
        """
        reset_at = self._reset_at.get(self._standing.learned.generation)
        if reset_at is None or tp not in self._first:
            return False
        early = 0 if tp == self._fused else self._ensemble.rules.orphan_horizon_ms
        return self._first[tp] + early < reset_at

    def _take_answers(self, changes: Changes, columns: Columns) -> list[Charge]:
        # The live learner sends what cannot be read to dead-letter and learns nothing from it.
        charges = answers.take_all(changes, self._ensemble.rules, columns, lambda refused: None)
        self._fused_until = max(self._fused_until, int(columns.appended.max()))
        return charges

    def _take_labels(self, changes: Changes, columns: Columns) -> tuple[list[Charge], list[Control]]:
        found = self._reader.read(columns)
        self._labels_until = max(self._labels_until, int(columns.appended.max()))
        charges = take_labels(changes, self._ensemble.rules, found.here, self._fused_until)
        charges += take_trials(changes, self._ensemble.rules, found.trials)
        for control, appended in zip(found.controls, found.controls_appended, strict=True):
            if control.generation is not None:
                self._reset_at.setdefault(control.generation, appended)
        return charges, found.controls


def _with_magnitudes(algorithm_over: AlgorithmOver) -> AlgorithmOver:
    @lru_cache(64)
    def over(members: tuple[str, ...]) -> Additive[Any]:
        return WithMagnitudes(algorithm_over(members))

    return over
