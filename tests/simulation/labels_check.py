"""What was learned is what one learner would learn in one go; no label is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from aiokafka.structs import TopicPartition
from numpy.typing import NDArray

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import Learned
from stream_ensemble.core.labels.matching import Charge, give_up_orphans, take_labels, take_trials
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.control import NOTHING
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.errors import StateError
from stream_ensemble.kafka.chunks import Chunk, Columns
from stream_ensemble.learner import answers
from stream_ensemble.learner.applied_topic import decode_applied, is_trial
from stream_ensemble.learner.reading import FeedbackReader
from stream_ensemble.learner.standing import Standing
from stream_ensemble.messages import ControlState
from stream_ensemble.stores.cold_mark import decode_mark
from stream_ensemble.stores.contribution_field import decode_field, encode_marker
from stream_ensemble.stores.contributions import Key, Marker, Order
from stream_ensemble.stores.control_state import CONTROLS
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from stream_ensemble.stores.weights_topic import decode_controls, decode_weights, encode_key
from tests.simulation import seen, settings
from tests.simulation.settings import CLASSES, PARTITIONS
from tests.simulation.workers import Fuser, Learner

_TOLERANCE = 1e-12


class _Single(NamedTuple):
    """A single run in order: what it learned, the charges, what became of labels."""

    parts: BySegment
    #: Says the same with every charge added, whatever its sign: the sum of |increments|.
    scale: Callable[[], BySegment]
    changes: Changes
    generation: int
    controls: ControlState
    refused: Counter[tuple[seen.Origin, str]]


class LabelsCheck:
    """Compares what the learners say with a single run over the topics."""

    def __init__(self, world: Any, answers: list[seen.Answer]) -> None:
        self._world = world
        self._answers = answers
        self._logs = world.broker.logs
        self._ensemble = settings.learned(world.variant)
        self._topics = settings.topics(world.variant)

    def check(self) -> None:
        """All of it."""
        dead = seen.dead(self._logs, self._topics.dead_letter)
        for number in range(PARTITIONS):
            single = self._single(number)
            self._check_dead(number, single, dead)
            self._check_winners(number, single)
            self._check_verdicts(number, single)
            self._check_contributions(number, single)
            self._check_published(number)
            self._check_orders(single)
        self._check_views()

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            self._world.violation(what)

    def _columns(self, topic: str, number: int) -> Columns:
        tp = TopicPartition(topic, number)
        batches, end = self._logs[tp].read(0, committed=True)
        return Chunk(tp, 0, end, batches).columns()

    # --- the single run -----------------------------------------------------------------------------

    def _single(self, number: int) -> _Single:
        rules, over = self._ensemble.rules, self._ensemble.algorithm_over
        changes = Changes(MemoryLabelStore())
        fused, until = self._columns(self._topics.fused, number), 0
        for record, appended in zip(fused.records, fused.appended.tolist(), strict=True):
            answers.take(changes, rules, record, record.offset, appended)
            until = max(until, appended)
        reader = FeedbackReader(self._topics.feedback, number, PARTITIONS, Classes(CLASSES))
        found = reader.read(self._columns(self._topics.feedback, number))
        charges = [
            *take_labels(changes, rules, found.here, until),
            *take_trials(changes, rules, found.trials),
        ]
        give_up_orphans(changes, rules, until, 1 << 30)
        refused = Counter(((one.origin, one.reason)) for one in changes.dead)
        for item in found.refused:
            refused[(self._topics.feedback, number, item.offset, item.row), item.error.reason] += 1
        nothing = Standing(Learned(0, BySegment()), Order(0, 0, 0), 1)
        standing = nothing.after(charges, changes, over, None, found.controls).standing

        @cache
        def scale() -> BySegment:
            added: list[Charge] = [one._replace(sign=1) for one in charges]
            return nothing.after(added, changes, over, None, found.controls).standing.learned.by_segment

        learned = standing.learned
        return _Single(learned.by_segment, scale, changes, learned.generation, standing.controls, refused)

    # --- comparisons --------------------------------------------------------------------------------

    def _check_dead(self, number: int, single: _Single, dead: Any) -> None:
        found: Counter[tuple[seen.Origin, str]] = Counter()
        for origin, reason, _ in dead:
            if origin[:2] == (self._topics.feedback, number):
                found[origin, reason] += 1
        # A label that a second one overtook while both waited is no orphan of its own.
        expected = Counter({at: n for at, n in single.refused.items() if at[1] != "orphan"})
        plain = Counter({at: n for at, n in found.items() if at[1] != "orphan"})
        # A forwarded label is refused under the place where it was first written.
        here = {at: n for at, n in expected.items() if at[0][1] == number}
        self._must(
            plain == here,
            f"dead labels of partition {number}: {plain - Counter(here)}, {Counter(here) - plain}",
        )
        twice = [at for at, n in found.items() if n > 1]
        self._must(not twice, f"labels dead twice: {twice}")

    def _check_winners(self, number: int, single: _Single) -> None:
        """By the labels alone: which one stands for a request, and how many requests are labelled."""
        answered = {a.fused.request_id: a for a in self._answers if a.partition == number}
        best: dict[str, tuple[int, int, seen.Origin, str]] = {}
        for label in seen.labels(self._logs, self._topics.feedback, number):
            answer = answered.get(label.request_id)
            in_time = (
                answer is None or label.appended - answer.appended <= self._ensemble.rules.label_horizon_ms
            )
            if label.label in CLASSES and in_time:
                place = (label.revision, label.appended, label.origin, label.label)
                best[label.request_id] = max(place, best.get(label.request_id, place))
        for request_id, (revision, _, origin, name) in best.items():
            verdict = single.changes.verdicts.get(request_id)
            if request_id in answered:
                told = None if verdict is None else (verdict.revision, verdict.origin, verdict.label)
                self._must(told == (revision, origin, name), f"{request_id} should be {name}, is {told}")
        pooled = {
            request_id
            for request_id, a in answered.items()
            if a.fused.credit
            and a.fused.components
            and self._generation(single, a.fused.credit.everywhere) == single.generation
        }
        n = single.parts[None].n if None in single.parts else 0
        self._must(
            n == len(pooled & best.keys()),
            f"n of {number} is {n}, {len(pooled & best.keys())} are labelled",
        )

    def _generation(self, single: _Single, digest: str) -> int:
        block = single.changes.block(digest)
        return -1 if block is None else block.generation

    def _check_verdicts(self, number: int, single: _Single) -> None:
        newest: dict[str, Any] = {}
        for record in self._columns(self._topics.applied, number).records:
            if not is_trial(record):
                request_id, verdict = decode_applied(record)
                newest[request_id] = verdict
        expected = {r: v for r, v in single.changes.verdicts.items() if v is not None}
        found = {r: v for r, v in newest.items() if v is not None}
        for request_id in sorted(expected.keys() | found.keys()):
            one, other = _told(expected.get(request_id)), _told(found.get(request_id))
            self._must(one == other, f"label of {request_id}: {other}, in one go {one}")

    def _check_contributions(self, number: int, single: _Single) -> None:
        parts = self._standing(number)
        for segment in sorted({*parts, *single.parts}, key=str):
            where = f"partition {number}" + (f", segment {segment}" if segment else "")
            part, alone = parts.get(segment), single.parts.get(segment)
            if part is not None and alone is not None:
                self._compare(where, part, alone, lambda segment=segment: single.scale()[segment])
            elif (part or alone).n:
                # What has learned nothing since a reset may be said to have, or not be said.
                self._must(False, f"{where} learned {part}, in one go {alone}")

    def _compare(
        self, where: str, part: Contribution, alone: Contribution, scale: Callable[[], Contribution]
    ) -> None:
        self._must(part.n == alone.n, f"n of {where} is {part.n}, in one go {alone.n}")
        self._must(part.clock == alone.clock, f"clock of {where}: {part.clock}, {alone.clock}")
        if part.sums.keys() != alone.sums.keys():
            self._world.violation(f"{where} has {sorted(part.sums)}, in one go {sorted(alone.sums)}")
            return
        for name, expected in alone.sums.items():
            off = np.abs(part.sums[name] - expected)
            # What was added up is no less than what it came to, which as a rule decides.
            as_a_rule = (off <= _TOLERANCE * np.abs(expected)).all()
            if not as_a_rule and (off > _TOLERANCE * _scale(scale().sums, name)).any():
                self._world.violation(f"{name} of {where} is off by {off}")
        for name, expected in alone.maxima.items():
            # A label that was overtaken before it was learned leaves no maximum.
            if (part.maxima[name] > expected * (1 + _TOLERANCE)).any():
                self._world.violation(f"{name} of {where}: {part.maxima[name]} above {expected}")

    def _standing(self, number: int) -> BySegment:
        for worker in self._world.running(Learner):
            for (_, place), partition in worker.owner.partitions.items():
                if place == number:
                    found: BySegment = partition.standing.learned.by_segment
                    return found
        return BySegment()

    def _check_published(self, number: int) -> None:
        newest: dict[Key, tuple[Order, Contribution]] = {}
        last = Order(0, 0, 0)
        for record in self._columns(self._topics.weights, number).records:
            if record.key == encode_key(CONTROLS):
                last = max(last, decode_controls(record.value).order)
            else:
                key, order, _, part = decode_weights(record.value)
                newest[key] = order, part
                last = max(last, order)
        standing = self._standing(number)
        written = {key.segment for key in newest}
        self._must(
            written == {*standing}, f"partition {number} wrote weights of {written}, not of {standing}"
        )
        for key, (order, part) in newest.items():
            if key.segment in standing:
                same = to_bytes(part) == standing.packed(key.segment)
                self._must(same, f"weights record of {key}, partition {number}, is not what stands")
            try:
                self._check_redis(key, number, order, to_bytes(part))
            except StateError as error:
                self._must(False, f"Redis has of {key}, partition {number}: {error}")
        if newest:
            raw = self._world.redis.hashes.get(None, {}).get(number, b"")
            same = raw == encode_marker(number, Marker(last, complete=True))
            self._must(same, f"the marker of {number} in Redis is {raw!r}, not at {last}")

    def _check_redis(self, key: Key, number: int, order: Order, value: bytes) -> None:
        """A contribution stands there as in the topic, or a mark says that it is cold."""
        redis = self._world.redis
        raw = redis.hashes.get(key, {}).get(number)
        if raw is not None:
            stored = decode_field(key, number, raw)
            same = (stored.order, stored.value) == (order, value)
            self._must(same, f"Redis has {stored.order} of {key}, partition {number}, not {order}")
            return
        left = decode_mark(key, redis.marks[key]) if key in redis.marks else {}
        self._must(left.get(number) == order, f"Redis has the mark {left} of {key}, {number} is at {order}")

    def _check_orders(self, single: _Single) -> None:
        """Every fuser knows of pins what a partition's records come to: all partitions have them all."""
        for worker in self._world.running(Fuser):
            pins = worker.view.current().pins
            state = NOTHING if pins is None else pins.state
            self._must(
                state == single.controls,
                f"{worker.process.name} knows {state}, the topic says {single.controls}",
            )

    def _check_views(self) -> None:
        seen_by = {w.process.name: w.view.current().version for w in self._world.running(Fuser)}
        self._must(len(set(map(str, seen_by.values()))) <= 1, f"fusers use different weights: {seen_by}")


def _scale(sums: Mapping[str, NDArray[np.float64]], name: str) -> NDArray[np.float64]:
    """The sum of |increments|, or less: of R, whose increments have both signs, their squares' root."""
    of = name.removesuffix("R")
    if of == name:
        absolute: NDArray[np.float64] = np.abs(sums[name])
        return absolute
    return sums[f"{of}|r|"] if f"{of}|r|" in sums else np.sqrt(sums[f"{of}V"])


def _told(verdict: Any) -> Any:
    return None if verdict is None else (verdict.learned, verdict.label, verdict.revision, verdict.origin)
