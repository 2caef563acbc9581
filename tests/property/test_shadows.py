"""Members in shadow beside the join: nothing of the answers depends on them, each of their predictions has
one fate, and the way for few and the way for many agree, while members are admitted and retired.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.membership import Membership
from stream_ensemble.core.partitioning import partition_of
from stream_ensemble.fuser import fusion, partition
from stream_ensemble.stores.credit_snapshot import Pool
from tests.property.test_few import (
    BASE,
    ELSEWHERE,
    HERE,
    HORIZON,
    IDS,
    PARTITIONS,
    TOML,
    World,
    play,
    record,
)

NAMES = ("a", "b", "c", "s", "t")
SHADOWS = ("s", "t")
AT_FIRST = 0b00111
#: Who may be awaited, and with what warm shares.
STANDINGS = [
    Membership(AT_FIRST),
    Membership(0b01111, (0.0, 0.0, 0.0, 0.2, 0.0)),
    Membership(0b01111),
    Membership(0b00101),
    Membership(0b11011, (0.0, 0.0, 0.0, 0.1, 0.3)),
]
WITH_SHADOWS = TOML.replace("partitions = 2", 'partitions = 2\nshadows = ["s", "t"]')
KINDS = {
    "a topic each": WITH_SHADOWS,
    "one topic for all": WITH_SHADOWS + 'topics = {predictions = "all"}\n',
    "bank": WITH_SHADOWS.replace(
        '{algorithm = "fixed", weights = {a = 0.5, b = 0.3, c = 0.2}}', '{algorithm = "bank"}'
    ),
    "a prior": WITH_SHADOWS.replace("quorum = 2", "quorum = 2\nprior = [0.25, 0.75]"),
}


class ShadowWorld(World):
    """``test_few``'s, with shadows and changing standings."""

    def __init__(self, toml: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(toml, loop)
        config = self.ensemble.config
        algorithm = make(config.learning, config.task, NAMES)
        self.weights._algorithm = algorithm
        self.weights._snapshot = replace(Pool(algorithm).snapshot({}), membership=STANDINGS[0])
        self.here = self.ensemble.partition(1, self.recorder, pytest.fail)  # type: ignore[arg-type]
        self.here.start_from([0] * len(self.ensemble.inputs))

    def stand(self, standing: Membership) -> None:
        self.weights._snapshot = replace(self.weights._snapshot, membership=standing)

    def on(self, topic: str) -> list[tuple[Any, ...]]:
        """All records written to a topic so far."""
        return [row for tp, rows in self.recorder.sent for row in rows if tp.topic == topic]


kinds = st.sampled_from(["plain"] * 60 + ["trace", "abstains", "segment", "no key", "not a distribution"])
ids = st.sampled_from(IDS[:12] * 2 + ELSEWHERE[:1])
ats = st.none() | st.integers(BASE - 50, BASE + 50) | st.just(BASE - 2 * HORIZON)
rows = st.tuples(ids, st.sampled_from(NAMES), st.sampled_from([0.0, 0.1, 0.3, 1.0]), kinds, ats)
everyone = st.builds(
    lambda request_id, members, share: [(request_id, member, share, "plain", BASE) for member in members],
    st.sampled_from(IDS[:12]),
    st.permutations(NAMES),
    st.floats(0, 1),
)
moves = (
    st.tuples(st.just("take"), st.lists(rows, min_size=1, max_size=6))
    | st.tuples(st.just("take"), everyone)
    | st.tuples(st.just("acknowledge"), st.integers(1, 3))
    | st.tuples(st.just("end"), st.integers(0, 2))
    | st.tuples(st.just("pin"), st.sampled_from([None, 0.5]))
    | st.tuples(st.just("forget the released"), st.none())
)
standings = st.tuples(st.just("stand"), st.sampled_from(STANDINGS))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def go(world: ShadowWorld, steps: Sequence[tuple[str, Any]], step_ms: int = 7) -> None:
    for number, (what, value) in enumerate(steps):
        if what == "stand":
            world.stand(value)
        elif what == "take":
            taken = chunks_of(world, value, BASE + number * step_ms)
            world.here.process(taken, 1.0 + number * step_ms / 1000)
        else:
            # So many empty steps before it that its time is the same.
            play(world, [("stand still", None)] * number + [(what, value)], step_ms)
        ledger = world.here.join.ledger
        assert ledger.prediction_difference() == 0
        assert ledger.request_difference(world.here.join.open_requests) == 0


def chunks_of(world: World, found: Sequence[tuple[Any, ...]], appended: int) -> list[Any]:
    by_topic: dict[int, list[Any]] = {}
    for one in found:
        by_topic.setdefault(world.ensemble.topic_of[NAMES.index(one[1])], []).append(record(*one))
    return [world.chunk(topic, records, appended) for topic, records in sorted(by_topic.items())]


@given(kind=st.sampled_from(sorted(KINDS)), steps=st.lists(moves | standings, max_size=25))
def test_one_by_one_is_as_many_at_once(
    loop: asyncio.AbstractEventLoop, kind: str, steps: list[tuple[str, Any]]
) -> None:
    few, many = ShadowWorld(KINDS[kind], loop), ShadowWorld(KINDS[kind], loop)
    go(few, steps)
    with patch.object(partition, "_FEW", -1), patch.object(fusion, "FEW", -1):
        go(many, steps)
    assert few.state() == many.state()


def without_shadows(value: bytes) -> dict[str, Any]:
    """A fused record but for what it says of shadows."""
    fused: dict[str, Any] = json.loads(value)
    shadows = fused.pop("shadow", [])
    assert set(shadows) <= set(SHADOWS)
    for name in shadows:
        for part in ("components", "sources"):
            del fused[part][name]
        if "weights" in fused:
            assert fused["weights"].pop(name) == 0.0
    assert not set(SHADOWS) & fused["components"].keys()
    return fused


@given(kind=st.sampled_from(["a topic each", "bank", "a prior"]), steps=st.lists(moves, max_size=25))
def test_no_answer_depends_on_a_shadow(
    loop: asyncio.AbstractEventLoop, kind: str, steps: list[tuple[str, Any]]
) -> None:
    tried, alone = ShadowWorld(KINDS[kind], loop), ShadowWorld(KINDS[kind], loop)
    # Acknowledging is by batches, of which there are more with shadows: all at once then.
    steps = [(what, 10**6 if what == "acknowledge" else value) for what, value in steps]
    go(tried, steps)
    for number, (what, value) in enumerate(steps):
        if what == "take":
            steps[number] = what, [one for one in value if one[1] not in SHADOWS]
    go(alone, steps)
    fused = [world.on("few.fused") for world in (tried, alone)]
    assert [key for key, _, _ in fused[0]] == [key for key, _, _ in fused[1]]
    assert [without_shadows(value) for _, value, _ in fused[0]] == [json.loads(v) for _, v, _ in fused[1]]
    assert [headers for _, _, headers in fused[0]] == [headers for _, _, headers in fused[1]]


@given(
    kind=st.sampled_from(["a topic each", "one topic for all"]),
    steps=st.lists(moves | standings, max_size=25),
)
def test_each_prediction_in_shadow_has_one_fate(
    loop: asyncio.AbstractEventLoop, kind: str, steps: list[tuple[str, Any]]
) -> None:
    world = ShadowWorld(KINDS[kind], loop)
    go(world, steps)
    sources: Counter[tuple[Any, ...]] = Counter()
    for _, value, _ in world.on("few.fused"):
        sources.update(tuple(source) for source in json.loads(value)["sources"].values())
    late = [
        tuple(json.loads(dict(headers)["stream-ensemble-source"]).values())
        for _, _, headers in world.on("few.late")
    ]
    sources.update(source[:4] for source in late)
    assert max(sources.values(), default=1) == 1
    trials = Counter(tuple(json.loads(value)["source"]) for _, value, _ in world.on("few.feedback"))
    assert max(trials.values(), default=1) == 1
    assert trials.keys() <= {source[:4] for source in late}


def test_what_is_in_time_stands_beside_the_answer_and_what_is_late_is_told_to_the_learner(
    loop: asyncio.AbstractEventLoop,
) -> None:
    world = ShadowWorld(KINDS["a topic each"], loop)
    go(world, [("take", [(IDS[0], "s", 0.9, "plain", BASE)])])
    assert world.here.join.open_requests == 0
    go(world, [("take", [(IDS[0], member, 0.25, "plain", BASE) for member in "abc"])])
    [(_, value, _)] = world.on("few.fused")
    fused = json.loads(value)
    assert (fused["status"], fused["shadow"], fused["output"]) == ("complete", ["s"], [0.25, 0.75])
    assert fused["components"]["s"] == [0.9, 1 - 0.9]
    assert fused["sources"]["s"] == ["few.predictions.s", 1, 0, 0]
    # Nothing before the acknowledgement, then all.
    assert world.here.committable()[3] == 0
    world.recorder.acknowledge(1)
    assert world.here.committable()[3] == 1
    go(world, [("take", [(IDS[0], "t", 0.4, "plain", BASE)])])
    [(key, late, _)] = world.on("few.late")
    assert (key, json.loads(late)["member"]) == (IDS[0].encode(), "t")
    [(key, trial, _)] = world.on("few.feedback")
    told = json.loads(trial)
    assert (key, told["kind"], told["member"], told["output"]) == (IDS[0].encode(), "trial", "t", [0.4, 0.6])
    assert world.here.committable()[4] == 0
    world.recorder.acknowledge(2)
    assert world.here.committable()[4] == 1


def test_who_retires_is_waited_for_no_more_and_who_is_admitted_is_from_the_next_request_on(
    loop: asyncio.AbstractEventLoop,
) -> None:
    world = ShadowWorld(KINDS["a topic each"], loop)
    go(world, [("take", [(IDS[0], member, 0.5, "plain", BASE) for member in "ac"])])
    assert world.on("few.fused") == []
    world.stand(Membership(0b00101))
    world.here.tick([None] * len(world.ensemble.inputs), [False] * len(world.ensemble.inputs), 0.0)
    [(_, value, _)] = world.on("few.fused")
    fused = json.loads(value)
    assert (fused["status"], sorted(fused["weights"])) == ("complete", ["a", "c"])
    assert fused["weights"]["a"] == pytest.approx(0.5 / 0.7)
    world.stand(Membership(0b01101, (0.0, 0.0, 0.0, 0.2, 0.0)))
    go(world, [("take", [(IDS[1], member, 0.5, "plain", BASE) for member in "ac"])])
    assert len(world.on("few.fused")) == 1
    go(world, [("take", [(IDS[1], "s", 1.0, "plain", BASE)])])
    fused = json.loads(world.on("few.fused")[1][1])
    assert fused["status"] == "complete"
    assert fused["warm"] == {"s": 0.2}
    # The others keep their ratio, and the answer is what the weights say.
    assert fused["weights"]["s"] == pytest.approx(0.2)
    assert fused["weights"]["a"] / fused["weights"]["c"] == pytest.approx(0.5 / 0.2)
    assert fused["output"] == pytest.approx([0.6, 0.4])


def test_before_any_weights_were_seen_the_settings_say_who_is_in_shadow(
    loop: asyncio.AbstractEventLoop,
) -> None:
    world = ShadowWorld(KINDS["a topic each"], loop)
    world.weights._snapshot = replace(world.weights._snapshot, membership=None)
    go(world, [("take", [(IDS[0], member, 0.25, "plain", BASE) for member in "sabc"])])
    fused = json.loads(world.on("few.fused")[0][1])
    assert (fused["shadow"], fused["weights"]["s"]) == (["s"], 0.0)


def test_no_more_wait_than_told_and_the_oldest_are_late_first(loop: asyncio.AbstractEventLoop) -> None:
    world = ShadowWorld(KINDS["a topic each"].replace("quorum", "max_open_requests = 100\nquorum"), loop)
    names = [i for i in map(str, range(1000)) if partition_of(i.encode(), PARTITIONS) == HERE]
    some = [(name, "s", 0.9, "plain", BASE) for name in names[:300]]
    world.here.process(chunks_of(world, some, BASE), 1.0)
    world.here.tick([None] * len(world.ensemble.inputs), [False] * len(world.ensemble.inputs), 0.0)
    assert len(world.here.shadows) == 100
    assert [key.decode() for key, _, _ in world.on("few.late")] == names[:200]
    assert world.here.join.ledger.prediction_difference() == 0


def test_one_that_nobody_else_answers_is_late_in_the_end(loop: asyncio.AbstractEventLoop) -> None:
    world = ShadowWorld(KINDS["a topic each"], loop)
    go(world, [("take", [(IDS[0], "s", 0.9, "plain", BASE)])])
    for member in "abc":
        world.here.process(chunks_of(world, [(IDS[1], member, 0.5, "plain", BASE)], BASE + HORIZON - 1), 2.0)
    nothing = [None] * len(world.ensemble.inputs), [False] * len(world.ensemble.inputs), 0.0
    requests = world.ensemble.requests
    assert requests is not None
    world.here.join.progress.read(requests, BASE + HORIZON + 1, 0)
    world.here.tick(*nothing)
    assert world.on("few.late") == []
    for member in "abc":
        world.here.process(chunks_of(world, [(IDS[2], member, 0.5, "plain", None)], BASE + HORIZON + 1), 3.0)
    world.here.tick(*nothing)
    [(key, _, _)] = world.on("few.late")
    assert key == IDS[0].encode()
    world.recorder.acknowledge(len(world.recorder.waiting))
    assert world.here.committable()[3] == 1
    assert world.here.join.ledger.late == 1
