"""Requests and predictions, told by the topics: one answer each, made of what was there in time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stream_ensemble.config import TopicNames
from tests.chaos.ledger import Ledger
from tests.chaos.routing import partition_of
from tests.chaos.topic_log import Record

Place = tuple[str, int, int]
FORWARDED, SOURCE = "stream-ensemble-forwarded", "stream-ensemble-source"
DEAD_LETTER = "stream-ensemble-dead-letter"
_OUR_CAUSES = {"unreadable", "capacity", "early"}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the run's ensemble was told.

    Attributes:
        under_way_ms: from the append of a record until an answer that knows of it is appended, at most: what
            came meanwhile was not known.
    """

    members: tuple[str, ...]
    classes: tuple[str, ...]
    partitions: int
    deadline_ms: int
    silence_ms: int
    under_way_ms: int = 300


@dataclass(slots=True)
class Answer:
    """A fused record and what it says."""

    record: Record
    says: dict[str, Any]


@dataclass(slots=True)
class _Prediction:
    record: Record
    member: str
    output: list[float] | None


class AnswersAudit:
    """Reads predictions, requests, fused, late and dead-letter; writes into ``ledger``.

    Args:
        acknowledged: by place, when the brokers said that all in-sync replicas have it (ms).

    Attributes:
        answers: the first fused record of each request.
        first_ms: append time of each request's first record.
    """

    def __init__(
        self,
        records: dict[str, list[Record]],
        topics: TopicNames,
        rules: Rules,
        ledger: Ledger,
        acknowledged: Mapping[Place, float],
    ) -> None:
        self._records, self._topics, self._rules, self._ledger = records, topics, rules, ledger
        self._acknowledged = acknowledged
        self.answers: dict[str, Answer] = {}
        self.first_ms: dict[str, int] = {}
        self._by_request: dict[str, dict[str, list[_Prediction]]] = defaultdict(lambda: defaultdict(list))
        self._late = {source_of(record, SOURCE) for record in records[topics.late]}
        self._dead = {source_of(record, DEAD_LETTER) for record in records[topics.dead_letter]}
        self._moved = {
            source_of(record, FORWARDED)
            for topic in (*topics.predictions, topics.requests)
            for record in records[topic]
            if FORWARDED in record.headers
        }
        #: By topic and partition, when each record there could be read at the latest (ms).
        self._readable: dict[tuple[str, int], list[float]] = defaultdict(list)

    def run(self) -> None:
        """Everything."""
        for member, topic in zip(self._rules.members, self._topics.predictions, strict=True):
            for record in self._records[topic]:
                self._take_prediction(member, record)
        for record in self._records[self._topics.requests]:
            request_id = json.loads(record.value or b"{}")["request_id"]
            if self._at_home(request_id, record):
                self._seen(request_id, record)
        self._take_answers()
        self._ledger.counts["requests"] = len(self.first_ms)
        for request_id in self.first_ms:
            answer = self.answers.get(request_id)
            if answer is None:
                self._ledger.counts["missing"] += 1
                self._ledger.wrong("missing answer", request_id)
            else:
                self._judge(request_id, answer)

    # --- predictions ------------------------------------------------------------------------------------

    def _take_prediction(self, member: str, record: Record) -> None:
        readable = max(record.appended, self._acknowledged.get(record.place, record.appended))
        self._readable[record.topic, record.partition].append(readable)
        self._ledger.counts["predictions"] += 1
        says = json.loads(record.value or b"{}")
        output = says.get("output")
        if record.place in self._dead:
            self._ledger.counts["dead-lettered"] += 1
            if output is None or _is_distribution(output):
                self._ledger.wrong("good prediction in dead-letter", f"{record.place}")
        elif not self._at_home(says["request_id"], record):
            self._ledger.counts["forwarded"] += 1
            if record.place not in self._moved:
                self._ledger.wrong("lost prediction", f"{record.place} was never moved home")
        elif output is not None and not _is_distribution(output):
            self._ledger.wrong("lost prediction", f"{record.place} is unusable and not in dead-letter")
        else:
            self._seen(says["request_id"], record)
            self._by_request[says["request_id"]][member].append(_Prediction(record, member, output))

    def _at_home(self, request_id: str, record: Record) -> bool:
        return partition_of(request_id.encode(), self._rules.partitions) == record.partition

    def _seen(self, request_id: str, record: Record) -> None:
        self.first_ms[request_id] = min(self.first_ms.get(request_id, record.appended), record.appended)

    # --- answers ----------------------------------------------------------------------------------------

    def _take_answers(self) -> None:
        for record in self._records[self._topics.fused]:
            says = json.loads(record.value or b"{}")
            request_id = says["request_id"]
            if request_id in self.answers:
                self._ledger.counts["twice"] += 1
                self._ledger.wrong("answered twice", f"{request_id} at {record.place}")
                continue
            self.answers[request_id] = Answer(record, says)
            self._ledger.counts[says["status"]] += 1
            if request_id not in self.first_ms:
                self._ledger.wrong("answer nobody asked for", f"{request_id} at {record.place}")
            if not self._at_home(request_id, record):
                self._ledger.wrong("answer on a wrong partition", f"{request_id} at {record.place}")

    def _judge(self, request_id: str, answer: Answer) -> None:
        asleep = answer.says.get("asleep") or {}
        given = self._by_request.get(request_id, {})
        if answer.says["status"] != "complete":
            self._ledger.counts[f"cause: {answer.says['cause']}"] += 1
            if answer.says["cause"] in _OUR_CAUSES:
                self._ledger.wrong("incomplete by our fault", f"{request_id}: {answer.says['cause']}")
        for member in self._rules.members:
            predictions = given.get(member, [])
            if member in answer.says["components"]:
                self._check_component(request_id, answer, member, predictions)
            elif asleep.get(member) == "missing":
                self._check_missing(request_id, answer, member, predictions)
            elif not (predictions and predictions[0].output is None and asleep.get(member) == "abstain"):
                self._ledger.wrong("member unaccounted for", f"{request_id} {member}: {asleep.get(member)}")
            self._count(request_id, predictions, asleep.get(member) != "missing")
        self._check_output(request_id, answer)

    def _check_component(
        self, request_id: str, answer: Answer, member: str, predictions: list[_Prediction]
    ) -> None:
        source = tuple(answer.says["sources"][member][:3])
        if not predictions or predictions[0].record.place != source:
            self._ledger.wrong("component is not the first prediction", f"{request_id} {member}: {source}")
        elif predictions[0].output != answer.says["components"][member]:
            self._ledger.wrong("component differs from its source", f"{request_id} {member}")

    def _check_missing(
        self, request_id: str, answer: Answer, member: str, predictions: list[_Prediction]
    ) -> None:
        """A missing member's prediction is absent or came too late, or the member was silent."""
        due = self.first_ms[request_id] + self._rules.deadline_ms
        if answer.says["status"] == "complete":
            self._ledger.wrong("complete without a member", f"{request_id} {member}")
        if not predictions or predictions[0].record.appended >= due:
            return
        there = predictions[0].record
        if self._replicated_after(there, due):
            self._ledger.counts["replicated too late"] += 1
            return
        if answer.says.get("cause") == "silent" and self._was_silent(there, answer.record.appended):
            return
        self._ledger.wrong(
            "left out though in time",
            f"{request_id} {member}: {there.place} appended {due - there.appended} ms before the deadline, "
            f"answered {answer.record.appended - due} ms after it, cause {answer.says.get('cause')}",
        )

    def _replicated_after(self, there: Record, due: int) -> bool:
        """Whether the brokers held it back: nobody can read a record that not all in-sync replicas have."""
        return self._acknowledged.get(there.place, there.appended) >= due

    def _was_silent(self, there: Record, answered_ms: int) -> bool:
        """Nothing of the member was there for the whole window, as far as the one who answered could see."""
        begin, end = answered_ms - self._rules.silence_ms, answered_ms - self._rules.under_way_ms
        return not any(begin <= each < end for each in self._readable[there.topic, there.partition])

    def _count(self, request_id: str, predictions: Iterable[_Prediction], answered: bool) -> None:
        for place, prediction in enumerate(predictions):
            if place == 0 and answered:
                self._ledger.counts["used"] += 1
            elif prediction.record.place in self._late:
                self._ledger.counts["late"] += 1
            elif place > 0:
                self._ledger.counts["duplicate"] += 1
            else:
                self._ledger.counts["lost"] += 1
                self._ledger.wrong("lost prediction", f"{request_id}: {prediction.record.place}")

    def _check_output(self, request_id: str, answer: Answer) -> None:
        output, weights = answer.says.get("output"), answer.says.get("weights")
        if output is None or weights is None:
            return
        for c, value in enumerate(output):
            mean = sum(w * answer.says["components"][member][c] for member, w in weights.items())
            if abs(mean - value) > 1e-9:
                self._ledger.wrong("output is not the weighted mean", f"{request_id}: {value} for {mean}")
                return


def source_of(record: Record, header: str) -> Place | None:
    """Where the record says that it was first written; None without that header."""
    if header not in record.headers:
        return None
    says = json.loads(record.headers[header])
    return says["topic"], says["partition"], says["offset"]


def _is_distribution(output: list[float]) -> bool:
    return min(output) >= 0 and abs(sum(output) - 1) <= 1e-3
