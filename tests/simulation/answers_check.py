"""Exactly one terminal record per request, from what the log says; every prediction has one fate."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from stream_ensemble.core.partitioning import partitions_of
from tests.simulation import seen, settings
from tests.simulation.seen import Answer, Row
from tests.simulation.settings import DEADLINE_MS, LATENESS_S, MEMBERS, PARTITIONS
from tests.simulation.traffic import COMING

_HORIZON_MS = int(LATENESS_S * 1000)
#: At most so many violations of a kind are said.
_MOST = 5


class _Request(msgspec.Struct):
    request_id: str
    members: list[str] | None = None
    deadline_ms: int | None = None


_decode_request = msgspec.json.Decoder(_Request).decode


class AnswersCheck:
    """Compares the topics of the fusers with each other."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self._logs = world.broker.logs
        self._topics = settings.topics(world.variant)
        self.answers = seen.answers(self._logs, self._topics.fused)
        self._of = {answer.fused.request_id.encode(): answer for answer in self.answers}
        self._late = seen.late(self._logs, self._topics.late)
        self._dead = {origin for origin, _, _ in seen.dead(self._logs, self._topics.dead_letter)}
        self._requests: dict[bytes, tuple[int, _Request]] = {}
        #: Usable predictions on their canonical partition, by request and member, in log order.
        self._rows: defaultdict[bytes, defaultdict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
        self._retired = any(
            b'"retire"' in (record.value or b"")
            for number in range(PARTITIONS)
            for _, record in self._logs[TopicPartition(self._topics.feedback, number)].records()
        )
        self._sort()

    def _sort(self) -> None:
        topics: dict[str, set[str]] = {}
        for k, topic in enumerate(self._topics.predictions):
            topics.setdefault(topic, set()).add(MEMBERS[k])
        rows = [
            row
            for topic, names in topics.items()
            for row in seen.rows(self._logs, topic, frozenset(names))
            if not (self._retired and names == {COMING} and row.origin[2] < self._first(topic, row.origin[1]))
        ]
        canonical = partitions_of([row.request_id for row in rows], PARTITIONS).tolist()
        moved = {row.forwarded for row in rows if row.forwarded is not None}
        for row, place in zip(rows, canonical, strict=True):
            if row.member < 0:
                self._must(row.origin in self._dead, f"a bad record is no dead letter: {row.origin}")
            elif place == row.origin[1]:
                self._rows[row.request_id][row.member].append(row)
            elif row.forwarded is None:
                self._must(row.origin in moved, f"{row.request_id!r} was not forwarded from {row.origin}")
            else:
                self._must(row.origin in self._dead, f"forwarded twice: {row.origin}")
        for number in range(PARTITIONS):
            log = self._logs[TopicPartition(self._topics.requests, number)]
            for batch, record in log.records():
                said = _decode_request(record.value or b"")
                self._requests.setdefault(said.request_id.encode(), (batch.max_timestamp, said))

    def _first(self, topic: str, number: int) -> int:
        """Where reading began, by the first commit: in shadow that is where the members stood."""
        history = self._world.broker.history[self._world.fusers.name, TopicPartition(topic, number)]
        return history[0][0] if history else 0

    def _must(self, holds: bool, what: str) -> None:
        if not holds:
            self._world.violation(what)

    def check(self) -> None:
        """All of it."""
        self._one_each()
        for request_id, answer in self._of.items():
            self._check_members(request_id, answer)
        self._check_credit()
        self._check_commits()

    def _check_commits(self) -> None:
        """No offset was committed over a prediction before the answer that uses it stood."""
        history = self._world.broker.history
        for answer in self.answers:
            for topic, number, offset, _ in answer.fused.sources.values():
                commits = history[self._world.fusers.name, TopicPartition(topic, number)]
                place = bisect_right(commits, offset, key=itemgetter(0))
                if place < len(commits) and commits[place][1] < answer.stands_since:
                    early = answer.stands_since - commits[place][1]
                    what = f"{topic}/{number} was committed over {offset} {early} ms before its answer"
                    self._must(False, f"{answer.fused.request_id}: {what}")

    def _one_each(self) -> None:
        times = Counter(answer.fused.request_id.encode() for answer in self.answers)
        twice = [request_id for request_id, count in times.items() if count > 1]
        self._must(not twice, f"{len(twice)} requests ended twice: {twice[:_MOST]}")
        opened = self._requests.keys() | self._answered(MEMBERS)
        # In shadow nobody opens a request.
        awaited = [name for name in MEMBERS if not (self._retired and name == COMING)]
        missing = sorted((self._requests.keys() | self._answered(awaited)) - times.keys())
        self._must(not missing, f"{len(missing)} requests never ended: {missing[:_MOST]}")
        invented = sorted(times.keys() - opened)
        self._must(not invented, f"{len(invented)} requests ended that nobody made: {invented[:_MOST]}")
        places = partitions_of([answer.fused.request_id.encode() for answer in self.answers], PARTITIONS)
        wrong = sum(
            answer.partition != place for answer, place in zip(self.answers, places.tolist(), strict=True)
        )
        self._must(not wrong, f"{wrong} answers on another partition than their own")

    def _answered(self, members: Sequence[str]) -> set[bytes]:
        """Requests to which one of these has said something in time."""
        return {
            request_id
            for request_id, of in self._rows.items()
            if any(not _too_old(row) for k, rows in of.items() if MEMBERS[k] in members for row in rows)
        }

    def _check_members(self, request_id: bytes, answer: Answer) -> None:
        fused, of = answer.fused, self._rows[request_id]
        asleep = fused.asleep or {}
        for k, name in enumerate(MEMBERS):
            rows = of.get(k, ())
            young = [row for row in rows if not _too_old(row)]
            used = tuple(fused.sources[name]) if name in fused.sources else None
            in_shadow = self._retired and name == COMING
            if in_shadow:
                # In shadow the oldest of too many are late: then the next one is the first, or there is none.
                young = [row for row in young if row.origin == used or row.origin not in self._late] or young[
                    :1
                ]
            first = young[0] if young else None
            if used is not None:
                if first is None or used != first.origin or not first.awake:
                    self._must(
                        False,
                        f"{request_id!r}: the answer of {name} used is {used}, the first is {first}",
                    )
            elif asleep.get(name) in ("abstain", "error"):
                used = first.origin if first is not None else None
            elif asleep.get(name) == "missing" and first is not None and not in_shadow:
                self._check_given_up(request_id, answer, first)
            self._check_fates(request_id, answer, name, rows, used)

    def _check_fates(self, request_id: bytes, answer: Answer, name: str, rows: Any, used: Any) -> None:
        fused, asleep = answer.fused, answer.fused.asleep or {}
        expected = self._requests[request_id][1].members if request_id in self._requests else None
        if self._retired and name == COMING and name not in fused.sources:
            # In shadow: what repeats one that waited in vain for its request is a duplicate of what is late
            # in the end, and the answer does not say that it had none.
            late = [row for row in rows if row.origin in self._late and not _too_old(row)]
            if late:
                rows = [row for row in rows if _too_old(row) or row in late]
            if name not in asleep:
                rows = [row for row in rows if row.awake]
        elif expected is not None and name not in expected and name not in fused.sources:
            # Nobody asked it: the answer does not say that it had none.
            rows = [row for row in rows if row.awake]
        for row in rows:
            if row.origin == used:
                # One whose answer was refused may have been late for that, and be used for the next.
                if name in fused.sources and self._late.get(row.origin, 0) > answer.appended:
                    self._must(False, f"{request_id!r}: {row.origin} was used, then called late")
            elif row.origin not in self._late and used is None and fused.cause != "early":
                self._must(False, f"{request_id!r}: {row.origin} was dropped without a word")
            elif row.origin not in self._late and _too_old(row):
                self._must(
                    False,
                    f"{request_id!r}: {row.origin} is beyond the horizon and not in the late topic",
                )

    def _check_given_up(self, request_id: bytes, answer: Answer, first: Row) -> None:
        """A member is given up by the deadline only if nothing of it was appended before that."""
        fused = answer.fused
        if fused.cause != "deadline":
            return
        began, wait = [], DEADLINE_MS
        for rows in self._rows[request_id].values():
            began += [row.appended for row in rows if not _too_old(row)]
        if request_id in self._requests:
            appended, said = self._requests[request_id]
            began.append(appended)
            # It may have come before the end or after it.
            wait = min(wait, said.deadline_ms or wait)
        if first.appended < min(began) + wait - 1:
            self._must(
                False,
                f"{request_id!r}: {first} was appended {first.appended - min(began)} ms after the first",
            )

    def _check_credit(self) -> None:
        """Every credit block stands in the log before it is referred to, anew after each fence."""
        known: dict[tuple[int, int], set[str]] = {}
        for answer in self.answers:
            credit = answer.fused.credit
            if credit is None:
                continue
            here = known.setdefault((answer.partition, answer.epoch), set())
            here.update(credit.blocks or ())
            if credit.everywhere not in here:
                self._must(
                    False,
                    f"{answer.fused.request_id}: no keyframe of {credit.everywhere} since the last fence",
                )


def _too_old(row: Row) -> bool:
    return row.appended - row.at > _HORIZON_MS
