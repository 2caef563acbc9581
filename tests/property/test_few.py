"""A handful of records taken one by one leads to what the way for many leads to: the same bytes out, the same
offsets released, the same ledger.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble import settings_file
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.fuser import fusion, partition
from stream_ensemble.fuser.ensemble import FusedEnsemble, fused_ensemble
from stream_ensemble.fuser.partition import FuserPartition
from stream_ensemble.kafka.chunks import Chunk, EndEvidence
from stream_ensemble.kafka.fenced_producer import Delivery, FencedProducer
from stream_ensemble.messages import (
    HEADER_FORWARDED,
    HEADER_TRACE,
    Calibration,
    ControlState,
    Pin,
    PinnedWeights,
)
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.control_state import encode_state
from stream_ensemble.stores.credit_snapshot import CreditSnapshot, Pool
from stream_ensemble.stores.pinned import Pins

MEMBERS, CLASSES = ("a", "b", "c"), ("no", "yes")
HERE, PARTITIONS = 1, 2
BASE, DEADLINE, HORIZON = 1_700_000_000_000, 100, 600_000
TOML = """
[ensembles.few]
members = ["a", "b", "c"]
partitions = 2
deadline_ms = 100
quorum = 2
task = {classes = ["no", "yes"]}
learning = {algorithm = "fixed", weights = {a = 0.5, b = 0.3, c = 0.2}}
"""
KINDS = {
    "plain": TOML,
    "with a prior": TOML.replace("quorum = 2", "quorum = 2\nprior = [0.25, 0.75]"),
    "a required member": TOML.replace("quorum = 2", 'quorum = 1\nrequired = ["c"]'),
    "calibrated": TOML.replace("c = 0.2}", "c = 0.2}, calibration = true"),
    "one topic for all": TOML + 'topics = {predictions = "all"}\n',
}
#: Ids of this partition, and two of the other one.
IDS = [f"r{i}" for i in range(99) if partition_of(b"r%d" % i, PARTITIONS) == HERE][:32]
ELSEWHERE = [f"r{i}" for i in range(60) if partition_of(b"r%d" % i, PARTITIONS) != HERE][:2]


class Weights:
    """What a fuser fuses with; may be said to be old, or pinned."""

    def __init__(self, ensemble_of: settings_file.Settings) -> None:
        config = ensemble_of.ensembles["few"]
        self.degraded: str | None = None
        self._algorithm = make(config.learning, config.task, MEMBERS)
        self._snapshot = Pool(self._algorithm).snapshot({})
        if config.learning.calibration:
            by = Calibration(confidence=(0.7, 0.9, 1.2, 1.6, 0.8), rest=1.1)
            self._snapshot = replace(self._snapshot, calibration=by)

    def pin(self, number: int, share: float | None) -> None:
        """Pins a to a share, for all requests; None: unpins."""
        pinned = None if share is None else PinnedWeights(weights={"a": share, "b": 1.0})
        state = ControlState(number=number, id="x", pins=(Pin(number=number, id="x", pinned=pinned),))
        pins = Pins(self._algorithm)
        pins.take({0: Stored(Order(0, 1, number), encode_state(state))})
        self._snapshot = replace(self._snapshot, pins=pins)

    def current(self) -> CreditSnapshot:
        return self._snapshot

    def of_segment(self, segment: str) -> CreditSnapshot | None:
        return None


@dataclass
class Recorder:
    """Takes what a partition hands over, and acknowledges it when told to."""

    loop: asyncio.AbstractEventLoop
    sent: list[tuple[TopicPartition, list[Any]]] = field(default_factory=list)
    waiting: list[asyncio.Future[Any]] = field(default_factory=list)

    def send(
        self, tp: TopicPartition, keys: Sequence[Any], values: Sequence[Any], headers: Any = None
    ) -> list[Delivery]:
        carried = [[] for _ in keys] if headers is None else headers
        self.sent.append((tp, list(zip(keys, values, carried, strict=True))))
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting.append(future)
        return [Delivery(future, 0, len(keys))]

    def acknowledge(self, count: int) -> None:
        for future in self.waiting[:count]:
            future.set_result(None)
        del self.waiting[:count]
        self.loop.run_until_complete(asyncio.sleep(0))


class World:
    """One partition of an ensemble, fed by hand."""

    def __init__(self, toml: str, loop: asyncio.AbstractEventLoop) -> None:
        settings = settings_file.loads(toml)
        self.weights = Weights(settings)
        self.ensemble: FusedEnsemble = fused_ensemble(settings, "few", self.weights)
        self.recorder = Recorder(loop)
        producer: FencedProducer = self.recorder  # type: ignore[assignment]
        self.here: FuserPartition = self.ensemble.partition(HERE, producer, pytest.fail)
        self.here.start_from([0] * len(self.ensemble.inputs))
        self.offsets = [0] * len(self.ensemble.inputs)

    def chunk(self, topic: int, records: Sequence[Any], appended: int) -> tuple[int, Chunk]:
        first = self.offsets[topic]
        builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
        for place, (key, value, headers) in enumerate(records):
            assert builder.append(place, appended, key, value, headers) is not None
        data = builder.build()
        data[0:8] = first.to_bytes(8, "big")
        read, batches = MemoryRecords(bytes(data)), []
        while read.has_next():
            batches.append(read.next_batch())
        self.offsets[topic] += len(records)
        tp = TopicPartition(self.ensemble.inputs[topic], HERE)
        raws = [memoryview(bytes(data))]
        return topic, Chunk(tp, first, self.offsets[topic], batches, size=len(data), raws=raws)

    def state(self) -> dict[str, Any]:
        """All that must be the same; what a slot held before it was given out is nobody's business."""
        join = self.here.join
        slots = join.slots
        rows = slots.row(slots.range())
        kept = ("state", "ids", "answered", "awake", "abstained", "expected", "at", "first_appended")
        more = ("due_appended", "due_monotonic", "first_read", "early", "outputs", "offsets", "rows")
        return {
            "sent": self.recorder.sent,
            "ledger": join.ledger.as_dict(),
            "open": join.open_requests,
            "committable": self.here.committable(),
            "slot_of": dict(slots.slot_of.items()),
            "sparse": (slots.segment_of, slots.trace_of),
            "progress": [vars_of(topic) for topic in join.progress.topics],
            "dues": (join._next_appended, join._next_monotonic),
            "silence": (join.progress._expected_since, join.progress._missed, join.progress.silent.tolist()),
            **{name: getattr(slots, name)[rows].tolist() for name in (*kept, *more)},
        }


def vars_of(struct: Any) -> tuple[Any, ...]:
    return tuple(getattr(struct, name) for name in struct.__slots__)


def record(request_id: str, member: str, share: float, kind: str, at: int | None) -> tuple[Any, ...]:
    """One prediction record of a kind; most are plain."""
    message: dict[str, Any] = {"version": 1, "kind": "prediction", "request_id": request_id}
    message |= {"member": member, "output": [share, 1 - share]}
    headers: list[tuple[str, bytes]] = []
    key: bytes | None = request_id.encode()
    if at is not None:
        message["at"] = at
    if kind == "abstains":
        message |= {"abstain": True}
        del message["output"]
    elif kind == "segment":
        message["segment"] = "phone"
    elif kind == "trace":
        headers = [(HEADER_TRACE, b"00-1-2-01"), ("other", b"x")]
    elif kind == "forwarded":
        origin = {"topic": "few.predictions.a", "partition": 0, "offset": 7, "row": 0, "appended": BASE}
        headers = [(HEADER_FORWARDED, json.dumps(origin).encode())]
    elif kind == "no key":
        key = None
    elif kind == "not a distribution":
        message["output"] = [share, share + 1]
    elif kind == "wrong length":
        message["output"] = [1.0]
    elif kind == "just within":
        message["output"] = [0.25, 0.75 + 1e-6]
    elif kind == "not JSON":
        return key, b"{", headers
    elif kind == "tombstone":
        return key, None, headers
    return key, json.dumps(message).encode(), headers


ODD = ["abstains", "segment", "forwarded", "no key", "not a distribution", "wrong length", "just within"]
kinds = st.sampled_from(["plain"] * 150 + ["trace"] * 20 + [*ODD, "not JSON", "tombstone"])
ids = st.sampled_from(IDS * 2 + ELSEWHERE)
ats = st.none() | st.integers(BASE - 50, BASE + 50) | st.just(BASE - 2 * HORIZON)
rows = st.tuples(ids, st.sampled_from(MEMBERS), st.sampled_from([0.0, 0.1, 0.3, 1.0]), kinds, ats)
shares = st.lists(st.floats(0, 1), min_size=3, max_size=3)
everyone = st.builds(
    lambda request_id, shares: [
        (request_id, member, share, "plain", BASE) for member, share in zip(MEMBERS, shares, strict=True)
    ],
    st.sampled_from(IDS),
    shares,
)
moves = (
    st.tuples(st.just("take"), st.lists(rows, min_size=1, max_size=6))
    | st.tuples(st.just("take"), everyone)
    | st.tuples(st.just("acknowledge"), st.integers(1, 3))
    | st.tuples(st.just("end"), st.integers(0, 2))
    | st.tuples(st.just("degrade"), st.sampled_from([None, "redis-away"]))
    | st.tuples(st.just("pin"), st.sampled_from([None, 0.0, 0.5]))
    | st.tuples(st.just("keyframes again"), st.none())
    | st.tuples(st.just("forget the released"), st.none())
)


def play(world: World, steps: Sequence[tuple[str, Any]], step_ms: int) -> None:
    for number, (what, value) in enumerate(steps):
        now = 1.0 + number * step_ms / 1000
        if what == "take":
            world.here.process(chunks_of(world, value, BASE + number * step_ms), now)
        elif what == "acknowledge":
            world.recorder.acknowledge(value)
        elif what == "end":
            ends: list[EndEvidence | None] = [EndEvidence(now, offset) for offset in world.offsets]
            world.here.tick(ends, [False] * len(ends), now)
        elif what == "degrade":
            world.weights.degraded = value
        elif what == "pin":
            world.weights.pin(number + 1, value)
        elif what == "forget the released":
            world.recorder.acknowledge(len(world.recorder.waiting))
            world.here.join._cut()
        else:
            world.here._fusion._written.clear()


def chunks_of(world: World, found: Sequence[tuple[Any, ...]], appended: int) -> list[tuple[int, Chunk]]:
    by_topic: dict[int, list[Any]] = {}
    for one in found:
        by_topic.setdefault(world.ensemble.topic_of[MEMBERS.index(one[1])], []).append(record(*one))
    return [world.chunk(topic, records, appended) for topic, records in sorted(by_topic.items())]


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@given(
    kind=st.sampled_from(sorted(KINDS)),
    steps=st.lists(moves, max_size=30),
    step_ms=st.sampled_from([1, 7, 40]),
)
def test_one_by_one_is_as_many_at_once(
    loop: asyncio.AbstractEventLoop, kind: str, steps: list[tuple[str, Any]], step_ms: int
) -> None:
    few, many = World(KINDS[kind], loop), World(KINDS[kind], loop)
    play(few, steps, step_ms)
    with patch.object(partition, "_FEW", -1), patch.object(fusion, "FEW", -1):
        play(many, steps, step_ms)
    assert few.state() == many.state()


@pytest.mark.parametrize("settings", ["plain", "calibrated"])
def test_plain_records_do_go_one_by_one(loop: asyncio.AbstractEventLoop, settings: str) -> None:
    world = World(KINDS[settings], loop)
    first = [(IDS[0], member, 0.25, "plain", BASE) for member in MEMBERS]
    world.here.process(chunks_of(world, first, BASE), 1.0)
    # The first answer carried the credit block; from here on neither arrays nor a new template is needed.
    with (
        patch.object(FuserPartition, "_take_many", side_effect=AssertionError("taken as many")),
        patch.object(fusion.Fusion, "_fuse", side_effect=AssertionError("fused as many")),
    ):
        for request_id, kind in zip(IDS[1:4], ["plain", "trace", "plain"], strict=True):
            for member in MEMBERS:
                one = [(request_id, member, 0.5, kind, BASE)]
                world.here.process(chunks_of(world, one, BASE), 1.0)
    answers = [
        msgspec.json.decode(value)["request_id"] for _, sent in world.recorder.sent for _, value, _ in sent
    ]
    assert answers == IDS[:4]
    credit = msgspec.json.decode(world.recorder.sent[-1][1][0][1])["credit"]
    assert ("calibration" in credit) == (settings == "calibrated")
    assert world.here.join.ledger.complete == 4


@pytest.mark.parametrize(("kind", "status"), [("a required member", "expired"), ("plain", "complete")])
def test_a_member_that_abstained_before_counts(
    loop: asyncio.AbstractEventLoop, kind: str, status: str
) -> None:
    world = World(KINDS[kind], loop)
    world.here.process(chunks_of(world, [(IDS[0], "c", 0.5, "abstains", BASE)], BASE), 1.0)
    with patch.object(FuserPartition, "_take_many", side_effect=AssertionError("taken as many")):
        for member in "ab":
            world.here.process(chunks_of(world, [(IDS[0], member, 0.5, "plain", BASE)], BASE), 1.0)
    [(_, [(_, value, _)])] = world.recorder.sent
    assert msgspec.json.decode(value)["status"] == status


def test_a_sum_at_the_edge_is_left_to_the_way_for_many(
    loop: asyncio.AbstractEventLoop,
) -> None:
    world = World(TOML, loop)
    tolerance = world.ensemble.config.task.sum_tolerance
    reader = world.ensemble.readers[0].few
    for excess, plain in [(0.9 * tolerance, True), (tolerance - 1e-12, False), (1.1 * tolerance, False)]:
        value = record(IDS[0], "a", 0.5, "plain", BASE)[1].replace(b"0.5, 0.5", b"0.5, %r" % (0.5 + excess))
        key = IDS[0].encode()
        found = reader.read([world.chunk(0, [(key, value, [])], BASE)])
        assert (found is not None) == plain, excess


def test_the_growing_ring_is_seen_one_by_one(loop: asyncio.AbstractEventLoop) -> None:
    world = World(TOML, loop)
    capacity = world.here.join.slots.capacity
    ids_here = [i for i in map(str, range(3 * capacity)) if partition_of(i.encode(), PARTITIONS) == HERE]
    for begin in range(0, capacity + 64, 8):
        some = [(i, "a", 0.25, "plain", BASE) for i in ids_here[begin : begin + 8]]
        world.here.process(chunks_of(world, some, BASE), 1.0)
    slots = world.here.join.slots
    assert slots.capacity > capacity
    assert np.array_equal(slots.outputs[slots.row(slots.range()), 0], np.tile([0.25, 0.75], (slots.high, 1)))
