"""What members, callers and labellers write in one schedule, and when; a tenth of it is out of order."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from stream_ensemble.columnar import predictions
from stream_ensemble.columnar.predictions import PredictionBatch
from stream_ensemble.core.partitioning import partitions_of
from stream_ensemble.messages import FORMAT_COLUMNS, HEADER_FORMAT
from tests.simulation.loop import EPOCH_MS
from tests.simulation.settings import CLASSES, DEADLINE_MS, LATENESS_S, MEMBERS, PARTITIONS, topics

REQUESTS = 200
#: Requests are made during so many seconds.
SPAN_S = 2.0
#: After everything was quiet the broker's clock goes so far ahead, and a few more records are written.
JUMP_S = 100.0
#: What is written within so many seconds to one partition comes in one batch.
_GATHER_S = 0.25
TAIL = 12
TAIL_SPAN_S = 1.2
#: So many predictions are out of order, by what it is about them. It comes while something is broken: during
#: three eighths of the time.
_ODD = {
    "again": 25, "conflicting": 12, "late": 24, "old": 5, "bad": 24,
    "misrouted": 12, "keyless": 6, "asleep": 12, "missing": 15,
}  # fmt: skip
#: The member that is retired and admitted.
COMING = MEMBERS[-1]
#: Segments that requests name.
SEGMENTS = ("shop", "web", "phone")
#: These are bad, late or duplicate; the others only unusual.
WRONG = ("again", "conflicting", "late", "old", "bad", "label")
_EIGHTHS, _BROKEN = 8, 3


_encode = msgspec.json.Encoder().encode


class Written(NamedTuple):
    """A record that a client writes at virtual time ``when``; ``request`` is the number of its request."""

    when: float
    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    request: int


@dataclass(slots=True)
class Traffic:
    """All of one schedule.

    Attributes:
        main: what is written first; ``tail`` what is written once that is settled, from time 0 of then on.
        ids: request ids by number; ``odd`` counts what is out of order, by kind.
    """

    main: list[Written]
    tail: list[Written]
    ids: list[bytes]
    odd: dict[str, int] = field(default_factory=dict)

    def without(self, requests: frozenset[int]) -> Traffic:
        """The same without some requests."""
        keep = lambda records: [record for record in records if record.request not in requests]  # noqa: E731
        return Traffic(keep(self.main), keep(self.tail), self.ids, self.odd)

    def batches(self, records: Sequence[Written]) -> list[tuple[float, str, int, list[Written]]]:
        """Records as producers send them: in batches by topic partition."""
        gathered: dict[tuple[int, str, int], list[Written]] = {}
        for record in sorted(records, key=lambda record: record.when):
            place = (int(record.when / _GATHER_S), record.topic, record.partition)
            gathered.setdefault(place, []).append(record)
        return [(found[-1].when, topic, number, found) for (_, topic, number), found in gathered.items()]


class _Writer:
    """Draws one schedule's records."""

    def __init__(self, seed: int, variant: int) -> None:
        self.rng = random.Random(seed)
        self.topics = topics(variant)
        self.ids = [b"r%03d-%05x" % (i, self.rng.getrandbits(20)) for i in range(REQUESTS + TAIL)]
        self.places = partitions_of(self.ids, PARTITIONS).tolist()
        while len(set(self.places[REQUESTS:])) < PARTITIONS:
            self.ids[-1] = b"r-end-%05x" % self.rng.getrandbits(20)
            self.places = partitions_of(self.ids, PARTITIONS).tolist()
        self.odd: dict[str, int] = {}
        #: Apart from the others, so that a seed's other records stay what they are without its orders.
        self.of_orders = random.Random(seed ^ 0x0DE5)
        self.of_segments = random.Random(seed ^ 0x5E6)
        #: In half of the schedules most records of requests name a segment.
        self.with_segment = self.of_segments.choice((0.0, 0.8))
        #: Who sends columnar records, if anybody.
        self.columnar = self.rng.choice((None, None, *range(len(MEMBERS))))
        self.broken = self.rng.sample(range(_EIGHTHS), _BROKEN)
        self.rows: dict[tuple[int, str, int], list[tuple[float, int, list[float], int]]] = {}

    def count(self, kind: str) -> None:
        self.odd[kind] = self.odd.get(kind, 0) + 1

    def write(self) -> Traffic:
        rng = self.rng
        made = sorted(rng.random() * SPAN_S for _ in range(REQUESTS))
        broken = [int(at / SPAN_S * _EIGHTHS) in self.broken for at in made]
        kinds = self.draw_kinds(sum(broken) * len(MEMBERS))
        main: list[Written] = []
        for number, at in enumerate(made):
            main += self.request(number, at)
            for k in range(len(MEMBERS)):
                main += self.prediction(number, k, at, kinds.pop() if broken[number] else None)
            main += self.labels(number, at)
        main += self.columns()
        main += self.strays(SPAN_S)
        main += self.orders(SPAN_S)
        return Traffic(main, self.tail(), self.ids, self.odd)

    # --- requests -----------------------------------------------------------------------------------

    def request(self, number: int, at: float) -> list[Written]:
        rng = self.rng
        if rng.random() > 0.25:
            return []
        said: dict[str, Any] = {"version": 1, "kind": "request", "request_id": self.ids[number].decode()}
        draw = rng.random()
        if draw < 0.2:
            said["members"] = rng.sample(MEMBERS, 2)
        if draw > 0.7:
            said["deadline_ms"] = rng.choice((200, 2 * DEADLINE_MS))
        if draw > 0.9:
            said["segment"] = "shop"
        elif self.of_segments.random() < self.with_segment:
            said["segment"] = self.of_segments.choice(SEGMENTS)
        # Before, between and after the predictions.
        when = max(0.0, at + rng.choice((-0.1, 0.1, 2.5)))
        return [self.record(when, self.topics.requests, number, said)]

    def record(self, when: float, topic: str, number: int, said: dict[str, Any], **more: Any) -> Written:
        place = more.pop("place", self.places[number])
        key = more.pop("key", self.ids[number])
        return Written(when, topic, place, key, _encode(said), (), number)

    # --- predictions --------------------------------------------------------------------------------

    def prediction(self, number: int, k: int, at: float, kind: str | None) -> list[Written]:
        rng = self.rng
        # Some are slow, but in time.
        when = at + 0.01 + (0.15 if rng.random() < 0.93 else 0.45) * rng.random()
        made, key, place = EPOCH_MS + int(at * 1000), self.ids[number], self.places[number]
        output = self.output()
        if kind == "missing":
            return []
        if kind == "late":
            when += DEADLINE_MS / 1000 + 2.0 * rng.random()
        elif kind == "old":
            made -= int(LATENESS_S * 1000) + 5000
        elif kind == "misrouted":
            # As a client does that uses CRC32: half of its ids come elsewhere.
            place = 1 - place if rng.random() < 0.7 else zlib.crc32(key) % PARTITIONS
        elif kind == "keyless":
            key = None  # type: ignore[assignment]
        elif kind is None and k == self.columnar:
            at_place = (int(when / _GATHER_S), MEMBERS[k], place)
            self.rows.setdefault(at_place, []).append((when, number, output, made))
            return []
        value = self.value(number, k, output, made, kind)
        found = [Written(when, self.topics.predictions[k], place, key, value, (), number)]
        if kind in ("again", "conflicting"):
            again = value if kind == "again" else self.value(number, k, self.output(), made, None)
            found.append(found[0]._replace(when=when + 1.5 * rng.random(), value=again))
        return found

    def draw_kinds(self, count: int) -> list[str | None]:
        """What is out of order about each of ``count`` predictions, all of ``_ODD`` among them."""
        kinds: list[str | None] = [kind for kind, times in _ODD.items() for _ in range(times)]
        self.odd = dict(_ODD)
        kinds += [None] * (count - len(kinds))
        self.rng.shuffle(kinds)
        return kinds

    def output(self) -> list[float]:
        rng = self.rng
        numbers = [rng.random() + 0.01 for _ in CLASSES]
        whole = sum(numbers)
        return [number / whole for number in numbers]

    def value(self, number: int, k: int, output: list[float], made: int, kind: str | None) -> bytes | None:
        request_id, member = self.ids[number].decode(), MEMBERS[k]
        answer = f'"output":[{output[0]!r},{output[1]!r},{output[2]!r}]'
        if kind == "asleep":
            answer = self.rng.choice(('"abstain":true', '"error":"out of memory"'))
        elif kind == "bad":
            wrong = self.rng.randrange(5)
            if wrong == 0:
                return b"{nonsense"
            if wrong == 1:
                answer = '"output":[0.5,0.1,0.1]'
            elif wrong == 2:
                member = "nobody"
            elif wrong == 3:
                request_id = "another"
            else:
                return None
        return (
            f'{{"version":1,"kind":"prediction","request_id":"{request_id}","member":"{member}",{answer},"at":{made}}}'
        ).encode()

    def columns(self) -> list[Written]:
        """Predictions that go out as columnar records."""
        found = []
        for (_, member, place), rows in self.rows.items():
            batch = PredictionBatch(
                member,
                [self.ids[number] for _, number, _, _ in rows],
                np.array([output for _, _, output, _ in rows]),
                np.array([made for *_, made in rows], np.int64),
            )
            topic = self.topics.predictions[MEMBERS.index(member)]
            when, number = max(row[0] for row in rows), rows[0][1]
            headers = ((HEADER_FORMAT, FORMAT_COLUMNS),)
            found.append(Written(when, topic, place, None, predictions.pack(batch), headers, number))
        return found

    # --- labels -------------------------------------------------------------------------------------

    def label(self, when: float, number: int, label: Any, revision: int = 0, **more: Any) -> Written:
        said = {"version": 1, "kind": "feedback", "request_id": self.ids[number].decode(), "label": label}
        if revision:
            said["revision"] = revision
        return self.record(when, self.topics.feedback, number, said, **more)

    def labels(self, number: int, at: float) -> list[Written]:
        rng = self.rng
        draw = rng.random()
        if draw < 0.15:
            return []
        when = max(0.0, at + (-0.1 if draw < 0.25 else 0.3 + 2.5 * rng.random()))
        first = self.label(when, number, rng.choice(CLASSES))
        if draw < 0.9:
            return [first]
        self.count("label")
        later = when + 1.5 * rng.random()
        if draw < 0.92:
            return [first, first._replace(when=later)]
        if draw < 0.94:
            return [first, self.label(later, number, rng.choice(CLASSES))]
        if draw < 0.96:
            # Its correction may come first.
            return [first, self.label(max(0.0, later - 0.7), number, rng.choice(CLASSES), revision=1)]
        if draw < 0.98:
            return [
                first._replace(partition=1 - first.partition),
                self.label(later, number, rng.choice(CLASSES)),
            ]
        return [first, self.label(later, number, "no such class", revision=2)]

    def strays(self, span: float) -> list[Written]:
        """Labels of requests that nobody makes, and nonsense among the labels."""
        rng, found = self.rng, []
        for i in range(4):
            said = {"version": 1, "kind": "feedback", "request_id": f"typo-{i}", "label": "x"}
            place = int(partitions_of([f"typo-{i}".encode()], PARTITIONS)[0])
            value = _encode(said)
            found.append(
                Written(rng.random() * span, self.topics.feedback, place, f"typo-{i}".encode(), value, (), i)
            )
        found.append(Written(rng.random() * span, self.topics.feedback, 0, b"k", b"[]", (), 4))
        return found

    def orders(self, span: float) -> list[Written]:
        """In half of the schedules: pins, unpins, resets, a member retired and admitted; partitions may read
        them in another order, or twice.
        """
        rng = self.of_orders
        if rng.random() < 0.5:
            return []
        found = []
        for number in range(1, rng.randint(2, 6)):
            said: dict[str, Any] = {"version": 1, "kind": "control", "number": number, "id": f"{number:x}"}
            said["action"] = rng.choice(("pin", "pin", "unpin", "reset", "retire", "retire", "admit"))
            said["by"] = rng.choice(("operator", "guardrail"))
            if said["action"] == "pin":
                said["pinned"] = {"weights": {member: rng.random() + 0.01 for member in MEMBERS}}
            if said["action"] == "reset":
                said["generation"] = number
            elif said["action"] in ("retire", "admit"):
                said["member"] = COMING
                if said["action"] == "admit":
                    said |= {"share": 0.1, "labels": 20.0, "generation": 1}
            elif rng.random() < 0.2:
                said["segment"] = "shop"
            for place in range(PARTITIONS):
                for _ in range(1 + (rng.random() < 0.2)):
                    when = rng.random() * span
                    found.append(Written(when, self.topics.feedback, place, None, _encode(said), (), -number))
        return found

    # --- after it is settled ------------------------------------------------------------------------

    def tail(self) -> list[Written]:
        """A few more requests of both partitions, after which labels without answers are given up."""
        rng, found = self.rng, []
        made = EPOCH_MS + 3_000_000_000
        for place in range(PARTITIONS):
            # Log time goes on in this topic too: what waits in shadow for nobody is given up.
            number = self.places.index(place, REQUESTS)
            said = {"version": 1, "kind": "request", "request_id": self.ids[number].decode()}
            if self.with_segment:
                said["segment"] = SEGMENTS[place]
            found.append(self.record(0.0, self.topics.requests, number, said))
        for number in range(REQUESTS, REQUESTS + TAIL):
            at = TAIL_SPAN_S * rng.random()
            for k, topic in enumerate(self.topics.predictions):
                # So few that a topic is often at its end while the slowest answer is still to come.
                when = at + (0.45 if k == number % 3 else 0.1) * rng.random()
                value = self.value(number, k, self.output(), made, None)
                found.append(Written(when, topic, self.places[number], self.ids[number], value, (), number))
        for number in rng.sample(range(REQUESTS), 3):
            found.append(self.label(0.2 * rng.random(), number, rng.choice(CLASSES), revision=5))
        return found


def draw(seed: int, variant: int) -> Traffic:
    """The traffic of a seed."""
    return _Writer(seed, variant).write()
