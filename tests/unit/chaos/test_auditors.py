"""The auditors of ``make chaos`` find what they are there for, planted one at a time in right topics."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from stream_ensemble.config import TopicNames
from tests.chaos.answers_audit import AnswersAudit, Rules
from tests.chaos.arithmetic import discounted_sum, increment
from tests.chaos.labels_audit import LabelsAudit
from tests.chaos.ledger import Ledger
from tests.chaos.topic_log import Record

TOPICS = TopicNames(("p.a", "p.b"), "requests", "fused", "late", "feedback", "weights", "applied", "dead")
RULES = Rules(("a", "b"), ("x", "y"), 1, deadline_ms=1000, silence_ms=2000)
BLOCK = {"algorithm": "ml_poly", "generation": 0, "n": 0, "members": ["a", "b"]}
HALF_LIFE = 500.0

Topics = dict[str, list[Record]]
Plant = Callable[[Topics], None]


def floats(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}d", *values)).decode()


def put(
    topics: Topics, topic: str, appended: int, says: dict[str, Any], headers: dict[str, bytes] | None = None
) -> Record:
    offset = len(topics[topic])
    key = str(says.get("request_id", "")).encode()
    record = Record(topic, 0, offset, appended, key, json.dumps(says).encode(), headers or {})
    topics[topic].append(record)
    return record


def predict(topics: Topics, member: str, request_id: str, appended: int, output: list[float]) -> Record:
    return put(topics, f"p.{member}", appended, {"request_id": request_id, "output": output})


def answer(topics: Topics, request_id: str, appended: int, sources: dict[str, Record], **more: Any) -> None:
    components = {m: json.loads(r.value or b"")["output"] for m, r in sources.items()}
    weight = 1 / len(sources)
    output = [sum(weight * components[m][c] for m in sources) for c in range(2)]
    put(
        topics,
        "fused",
        appended,
        {
            "request_id": request_id,
            "status": "complete",
            "output": output,
            "components": components,
            "sources": {m: [*r.place, 0] for m, r in sources.items()},
            "weights": dict.fromkeys(sources, weight),
            "credit": {"everywhere": "d", "blocks": {"d": BLOCK | {"values": floats(0, 0)}}},
        }
        | more,
    )


def right() -> Topics:
    """One complete answer, one that lacks a member who came late, and a label for the first."""
    topics: Topics = {
        name: []
        for name in (
            *TOPICS.predictions,
            "requests",
            "fused",
            "late",
            "feedback",
            "weights",
            "applied",
            "dead",
        )
    }
    both = {m: predict(topics, m, "r1", 100, [0.5, 0.5] if m == "a" else [0.25, 0.75]) for m in "ab"}
    answer(topics, "r1", 110, both)
    alone = predict(topics, "a", "r2", 200, [1.0, 0.0])
    answer(topics, "r2", 1210, {"a": alone}, status="partial", cause="deadline", asleep={"b": "missing"})
    late = predict(topics, "b", "r2", 1300, [0.5, 0.5])
    origin = {"topic": late.topic, "partition": 0, "offset": late.offset}
    put(topics, "late", 1310, {"request_id": "r2"}, {"stream-ensemble-source": json.dumps(origin).encode()})
    label = put(topics, "feedback", 300, {"request_id": "r1", "label": "x"})
    learned = {"request_id": "r1", "state": "learned", "label": "x", "origin": [*label.place, 0]}
    put(topics, "applied", 310, learned)
    # m = 0.375: r of a is 0.5 / 0.375 - 1 = 1/3, of b 0.25 / 0.375 - 1 = -1/3.
    r = (0.5 / 0.375 - 1, 0.25 / 0.375 - 1)
    sums = {"R": floats(*r), "V": floats(*(x * x for x in r)), "|r|": floats(*map(abs, r))}
    weights = {"kind": "weights", "partition": 0, "n": 1, "clock": 0.0, "members": ["a", "b"], "sums": sums}
    put(topics, "weights", 310, weights)
    return topics


def audited(topics: Topics) -> Ledger:
    ledger = Ledger()
    answers = AnswersAudit(topics, TOPICS, RULES, ledger, {})
    answers.run()
    LabelsAudit(topics, TOPICS, RULES, HALF_LIFE, answers.answers, ledger).run()
    return ledger


def says(topics: Topics, topic: str, place: int, **changes: Any) -> None:
    """Change what a record says."""
    record = topics[topic][place]
    value = json.dumps(json.loads(record.value or b"") | changes).encode()
    topics[topic][place] = record._replace(value=value)


def test_nothing_is_found_where_all_is_right() -> None:
    ledger = audited(right())
    assert ledger.violations == []
    assert (ledger.counts["complete"], ledger.counts["partial"], ledger.counts["n"]) == (1, 1, 1)
    assert (ledger.counts["used"], ledger.counts["late"], ledger.counts["lost"]) == (3, 1, 0)


def in_time(topics: Topics) -> None:
    topics["p.b"][1] = topics["p.b"][1]._replace(appended=1199)


PLANTED: dict[str, Plant] = {
    "answered twice": lambda t: t["fused"].append(t["fused"][0]._replace(offset=2)),
    "missing answer": lambda t: t["fused"].pop(1) and None,
    "answer nobody asked for": lambda t: answer(t, "r9", 500, {"a": t["p.a"][0]}),
    "left out though in time": in_time,
    "incomplete by our fault": lambda t: says(t, "fused", 1, cause="capacity"),
    "complete without a member": lambda t: says(t, "fused", 1, status="complete"),
    "lost prediction": lambda t: t["late"].clear(),
    "component differs from its source": lambda t: says(t, "p.a", 0, output=[0.4, 0.6]),
    "component is not the first prediction": lambda t: says(t, "fused", 1, sources={"a": ["p.a", 0, 0, 0]}),
    "output is not the weighted mean": lambda t: says(t, "fused", 0, output=[0.5, 0.5]),
    "label learned twice": lambda t: t["applied"].append(t["applied"][0]._replace(offset=1)),
    "label not learned": lambda t: says(t, "applied", 0, state="parked"),
    "another label won": lambda t: says(t, "applied", 0, label="y"),
    "n": lambda t: says(t, "weights", 0, n=2),
    "clock": lambda t: says(t, "weights", 0, clock=1.0),
    "credit block not found": lambda t: says(t, "fused", 0, credit={"everywhere": "e"}),
    "learned without label or answer": lambda t: t["feedback"].clear(),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_is_planted_is_found(kind: str) -> None:
    topics = right()
    PLANTED[kind](topics)
    assert {violation.partition(": ")[0] for violation in audited(topics).violations} >= {kind}


def test_a_sum_that_is_wrong_by_a_trillionth_is_found() -> None:
    topics = right()
    sums = json.loads(topics["weights"][0].value or b"")["sums"]
    first, second = struct.unpack("<2d", base64.b64decode(sums["R"]))
    says(topics, "weights", 0, sums=sums | {"R": floats(first + 4e-12, second)})
    assert [v for v in audited(topics).violations if v.startswith("weights: partition 0 R of a")]


def test_a_member_is_let_off_for_silence_only_after_the_whole_window() -> None:
    topics = right()
    in_time(topics)
    says(topics, "fused", 1, cause="silent")
    # b answered r1 at 100 and r2 at 1199.
    answered = topics["fused"][1]
    for moment, let_off in ((1210, False), (2101, False), (1199 + RULES.silence_ms + 1, True)):
        topics["fused"][1] = answered._replace(appended=moment)
        assert (audited(topics).violations == []) is let_off, moment


def test_a_prediction_that_the_brokers_held_back_counts_from_its_acknowledgement() -> None:
    topics = right()
    in_time(topics)
    ledger = Ledger()
    AnswersAudit(topics, TOPICS, RULES, ledger, {("p.b", 0, 1): 1500.0}).run()
    assert ledger.violations == []
    assert ledger.counts["replicated too late"] == 1
    ledger = Ledger()
    AnswersAudit(topics, TOPICS, RULES, ledger, {("p.b", 0, 1): 1199.5}).run()
    assert ledger.violations


def test_a_member_whose_prediction_nobody_could_read_yet_is_silent() -> None:
    topics = right()
    says(topics, "fused", 1, cause="silent")
    topics["p.b"][1] = topics["p.b"][1]._replace(appended=1000)
    topics["fused"][1] = topics["fused"][1]._replace(appended=2110)
    patient = replace(RULES, deadline_ms=5000)
    for acknowledged, let_off in ((1001.0, False), (2500.0, True)):
        ledger = Ledger()
        AnswersAudit(topics, TOPICS, patient, ledger, {("p.b", 0, 1): acknowledged}).run()
        assert (ledger.violations == []) is let_off, acknowledged


def test_the_arithmetic_is_that_of_the_formulas() -> None:
    block = {"members": ["a", "b", "c"], "values": floats(1.0, 0.5, 0.0), "n": 7}
    taught = increment(("a", "b", "c"), block, {"a": [0.2, 0.8], "b": [0.9, 0.1]}, 0)
    m = (0.99 * 2 / 3 + 0.005) * 0.2 + (0.99 / 3 + 0.005) * 0.9
    assert taught.regrets == pytest.approx((0.2 / m - 1, 0.9 / m - 1, 0.0), rel=1e-14)
    halved = discounted_sum([taught], "R", 7 + HALF_LIFE, HALF_LIFE)
    assert halved == pytest.approx([r / 2 for r in taught.regrets], rel=1e-15)
