"""Labels, told by the topics: each learned once, and what was learned recomputed from scratch."""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter, defaultdict
from typing import Any, NamedTuple

from stream_ensemble.config import TopicNames
from tests.chaos.answers_audit import FORWARDED, Answer, Rules
from tests.chaos.arithmetic import Increment, discounted_sum, increment
from tests.chaos.ledger import Ledger
from tests.chaos.routing import partition_of
from tests.chaos.topic_log import Record

_BAR = 1e-12


class _Label(NamedTuple):
    """``place`` decides between labels of one request: the largest counts."""

    place: tuple[int, int, tuple[str, int, int]]
    name: str


class LabelsAudit:
    """Reads feedback, fused, applied and weights; writes into ``ledger``."""

    def __init__(
        self,
        records: dict[str, list[Record]],
        topics: TopicNames,
        rules: Rules,
        half_life: float,
        answers: dict[str, Answer],
        ledger: Ledger,
    ) -> None:
        self._records, self._topics, self._rules = records, topics, rules
        self._half_life, self._answers, self._ledger = half_life, answers, ledger
        self._blocks: dict[str, Any] = {}
        for answer in answers.values():
            self._blocks |= (answer.says.get("credit") or {}).get("blocks") or {}

    def run(self) -> None:
        """Everything."""
        labels = self._labels()
        learnable = {
            request_id: each
            for request_id, each in labels.items()
            if request_id in self._answers and "credit" in self._answers[request_id].says
        }
        self._ledger.counts["waiting"] = len(labels.keys() - self._answers.keys())
        self._check_applied(labels, learnable)
        by_partition: dict[int, list[tuple[str, list[_Label]]]] = defaultdict(list)
        for request_id, each in learnable.items():
            by_partition[self._answers[request_id].record.partition].append((request_id, each))
        written = self._written()
        for partition in range(self._rules.partitions):
            self._check_weights(partition, by_partition[partition], written.get(partition))

    def _labels(self) -> dict[str, list[_Label]]:
        """By request, its usable labels in the order of their places."""
        found: dict[str, list[_Label]] = defaultdict(list)
        for record in self._records[self._topics.feedback]:
            says = json.loads(record.value or b"{}")
            self._ledger.counts["labels"] += 1
            home = partition_of(says["request_id"].encode(), self._rules.partitions) == record.partition
            if says["label"] not in self._rules.classes:
                self._ledger.counts["unusable labels"] += 1
            elif home:
                appended, origin = record.appended, record.place
                if FORWARDED in record.headers:
                    moved = json.loads(record.headers[FORWARDED])
                    appended = moved["appended"]
                    origin = moved["topic"], moved["partition"], moved["offset"]
                place = says.get("revision", 0), appended, origin
                found[says["request_id"]].append(_Label(place, says["label"]))
        return {request_id: sorted(set(each)) for request_id, each in found.items()}

    def _check_applied(self, labels: dict[str, list[_Label]], learnable: dict[str, list[_Label]]) -> None:
        """Each label that was learned stands so once, and the request's last word is its winner."""
        times: Counter[tuple[str, Any]] = Counter()
        last: dict[str, dict[str, Any]] = {}
        for record in self._records[self._topics.applied]:
            if record.value is None:
                continue
            says = json.loads(record.value)
            last[says["request_id"]] = says
            if says["state"] == "learned":
                times[says["request_id"], tuple(says["origin"][:3])] += 1
        for (request_id, origin), count in times.items():
            if count > 1:
                self._ledger.wrong("label learned twice", f"{request_id} from {origin}: {count} times")
        learned = {request_id for request_id, says in last.items() if says["state"] == "learned"}
        self._ledger.counts["learned"] = len(learned)
        for request_id, each in learnable.items():
            self._ledger.counts["corrected"] += len({label.name for label in each}) > 1
            if request_id not in learned:
                self._ledger.wrong("label not learned", request_id)
            elif last[request_id]["label"] != each[-1].name:
                self._ledger.wrong("another label won", f"{request_id}: {last[request_id]['label']}")
        # An expired answer has nothing to be charged against: its label is done with and counts nothing.
        for request_id in learned - (labels.keys() & self._answers.keys()):
            self._ledger.wrong("learned without label or answer", request_id)

    def _written(self) -> dict[int, dict[str, Any]]:
        """The last weights record of each partition."""
        found = {}
        for record in self._records[self._topics.weights]:
            says = json.loads(record.value or b"{}")
            if says.get("kind") == "weights" and says.get("segment") is None:
                found[says["partition"]] = says
        return found

    def _check_weights(
        self, partition: int, labels: list[tuple[str, list[_Label]]], written: dict[str, Any] | None
    ) -> None:
        if written is None:
            if labels:
                self._ledger.wrong("no weights", f"partition {partition} has {len(labels)} labels")
            return
        self._ledger.counts["n"] += written["n"]
        if written["n"] != len(labels):
            self._ledger.wrong("n", f"partition {partition}: {written['n']} for {len(labels)} labels")
            return
        counted, size = self._increments(labels)
        if len(counted) < len(labels):
            return
        clock = max((each.clock for each in counted), default=0.0)
        if written["clock"] != clock:
            self._ledger.wrong("clock", f"partition {partition}: {written['clock']} for {clock}")
        for name in ("R", "V", "|r|"):
            expected = discounted_sum(counted, name, clock, self._half_life)
            for member, mine, theirs in zip(
                written["members"], expected, _floats(written["sums"][name]), strict=True
            ):
                if abs(mine - theirs) > _BAR * size[name]:
                    self._ledger.wrong(
                        "weights", f"partition {partition} {name} of {member}: {theirs!r} for {mine!r}"
                    )

    def _increments(self, labels: list[tuple[str, list[_Label]]]) -> tuple[list[Increment], dict[str, float]]:
        """What the winners teach, and the sum of |increments| of all labels, taken back or not."""
        counted, size = [], {"R": 0.0, "V": 0.0, "|r|": 0.0}
        for request_id, each in labels:
            says = self._answers[request_id].says
            digest = says["credit"]["everywhere"]
            if digest not in self._blocks:
                self._ledger.wrong("credit block not found", f"{request_id}: {digest}")
                continue
            for label in each:
                taught = increment(
                    self._rules.members,
                    self._blocks[digest],
                    says["components"],
                    self._rules.classes.index(label.name),
                )
                for name in size:
                    size[name] += sum(map(abs, taught.of(name)))
            counted.append(taught)
        return counted, size


def _floats(text: str) -> tuple[float, ...]:
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 8}d", raw)
