"""Whatever the interleaving of fused records and labels of parts, each part teaches by its winning label.

The oracle charges one winning label per request and part as a request of its own, with no store and no flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import AlgorithmOver, Learned, charge
from stream_ensemble.core.labels.keys import label_key
from stream_ensemble.core.labels.matching import take_answer, take_labels, take_trials
from stream_ensemble.core.labels.records import Answer, Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.core.learning.trial import WithTrials
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels
from stream_ensemble.messages import CreditBlock, PartLabel, Trial
from stream_ensemble.stores.labels import LabelStore, Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore
from stream_ensemble.stores.rocks_labels import RocksLabelStore

MEMBERS = ("a", "b", "c")
PARTS = ("p", "q", "r")
FOREVER = 10**12


class Kind(NamedTuple):
    """A task of three parts, and what its members and its labels may say."""

    domain: Domain
    said: st.SearchStrategy[float]
    labels: st.SearchStrategy[bool | float]
    over: AlgorithmOver

    def alone(self, number: float) -> list[float]:
        """One part of an output as the only answer to a request."""
        return [1.0 - number, number] if isinstance(self.domain, ManyLabels) else [number]


def _kinds() -> list[Kind]:
    ahead, square = Horizons(PARTS), Horizons(PARTS, "square")
    many = ManyLabels(PARTS)
    shares, truths = st.floats(0.01, 0.99), st.booleans() | st.sampled_from([0.0, 1.0])
    temperatures = st.floats(-50, 50) | st.sampled_from([0.0, -0.0, 1e6])
    return [
        Kind(many, shares, truths, Bank),
        Kind(many, shares, truths, lambda members: MLPoly(members, 5.0)),
        Kind(ahead, temperatures, temperatures, lambda members: Bank(members, ahead.loss)),
        Kind(square, temperatures, temperatures, lambda members: MLPoly(members, 5.0, loss=square.loss)),
    ]


KINDS = _kinds()
NAMES = ["many-bank", "many-ml_poly", "absolute-bank", "square-ml_poly"]


class Request(NamedTuple):
    """A request's fused record: its credit block, outputs of the awake members, whether it has a segment."""

    block: int
    components: dict[str, list[float]]
    segment: bool


class Credits(NamedTuple):
    """Blocks of the whole and of a segment, at three clocks."""

    whole: list[tuple[str, CreditBlock]]
    own: list[tuple[str, CreditBlock]]


def _credits(over: AlgorithmOver) -> Credits:
    algorithm = over(MEMBERS)
    mixture = SegmentMixture(algorithm)
    rng = np.random.default_rng(3)
    some = [credit_block.encode(algorithm.name, 0, n, MEMBERS, rng.random(mixture.width)) for n in (0, 3, 20)]
    more = [
        credit_block.encode(algorithm.name, 0, n, MEMBERS, rng.random(mixture.width + 2)) for n in (1, 2, 5)
    ]
    return Credits(some, more)


def answer(request: Request, offset: int, blocks: Credits) -> Answer:
    digest, block = blocks.whole[request.block]
    credit: dict[str, Any] = {"everywhere": digest, "blocks": {digest: block}}
    record: dict[str, Any] = {"components": request.components, "credit": credit}
    if request.segment:
        own, of_segment = blocks.own[request.block]
        credit["segment"] = own
        credit["blocks"][own] = of_segment
        record["segment"] = "north"
    return Answer(offset, 1000 + offset, msgspec.json.encode(record))


@st.composite
def runs(draw: st.DrawFn, kind: Kind) -> tuple[list[Request], list[Feedback], list[object]]:
    """Requests, labels, and a schedule of fused records (a number), labels (some twice), flushes (None)."""
    outputs = st.lists(kind.said, min_size=3, max_size=3)
    request = st.builds(
        Request,
        st.integers(0, 2),
        st.dictionaries(st.sampled_from(MEMBERS), outputs, min_size=1),
        st.booleans(),
    )
    asked = draw(st.lists(request, min_size=1, max_size=4))
    label = st.tuples(
        st.integers(0, len(asked) - 1),
        st.integers(0, 2) | st.sampled_from(PARTS),
        kind.labels,
        st.integers(0, 2),
        st.sampled_from([1.0, 0.5, 3.0]),
        st.integers(0, 5),
    )
    labels = [
        Feedback(
            f"r{r}", PartLabel(part, value), revision, weight, 2000 + at, ("feedback", 0, offset, 0), bytes
        )
        for offset, (r, part, value, revision, weight, at) in enumerate(draw(st.lists(label, max_size=12)))
    ]
    again = draw(st.lists(st.sampled_from(labels), max_size=3)) if labels else []
    flushes: list[None] = [None] * draw(st.integers(0, 4))
    return asked, labels, draw(st.permutations([*range(len(asked)), *labels, *again, *flushes]))


def learn(kind: Kind, store: LabelStore, asked: Sequence[Request], schedule: Sequence[object]) -> Learned:
    """As one partition does: changes over a store, charges gathered until a flush."""
    blocks, rules = _credits(kind.over), Rules(kind.domain, FOREVER, FOREVER)
    changes = Changes(store)
    learned = Learned(0, BySegment())
    charges: list[Any] = []
    for event in [*schedule, None]:
        if event is None:
            learned = charge(learned, charges, changes, kind.over).learned
            store.write(changes, Position("me", 0, 0, 0))
            changes, charges = Changes(store), []
        elif isinstance(event, Feedback):
            charges += take_labels(changes, rules, [event], 0)
        elif isinstance(event, Trial):
            charges += take_trials(changes, rules, [event])
        else:
            assert isinstance(event, int)
            charges += take_answer(changes, rules, f"r{event}", answer(asked[event], event, blocks))
    assert store.parked_count() == 0
    return learned


def winners(kind: Kind, labels: Sequence[Feedback]) -> dict[tuple[str, int], Feedback]:
    best: dict[tuple[str, int], Feedback] = {}
    for label in labels:
        about = label.request_id, kind.domain.meaning(label.label).part
        held = best.get(about)
        if held is None or _place(label) > _place(held):
            best[about] = label
    return best


def _place(label: Feedback) -> tuple[int, int, object]:
    return label.revision, label.appended, label.origin


def oracle(
    kind: Kind, asked: Sequence[Request], labels: Sequence[Feedback]
) -> tuple[Contribution, Contribution]:
    """What the winning labels teach the whole, and the segment."""
    blocks, algorithm = _credits(kind.over), kind.over(MEMBERS)
    mixture = SegmentMixture(algorithm)
    whole, own = Contribution(MEMBERS), Contribution(MEMBERS)
    for (request_id, part), label in sorted(winners(kind, labels).items(), reverse=True):
        request, number = asked[int(request_id[1:])], kind.domain.meaning(label.label).number
        width = len(kind.alone(0.0))
        outputs, awake = np.zeros((1, 3, width)), np.zeros((1, 3), np.bool_)
        for k, member in enumerate(MEMBERS):
            if member in request.components:
                outputs[0, k], awake[0, k] = kind.alone(request.components[member][part]), True
        values = credit_block.decode(*blocks.whole[request.block])
        clock = float(blocks.whole[request.block][1].n)
        scale = np.array([label.weight])
        algorithm.learn(whole, values, Labelled(outputs, awake, np.array([number]), scale, clock))
        whole.n += 1
        if request.segment:
            clock = float(blocks.own[request.block][1].n)
            one = Labelled(outputs, awake, np.array([number]), scale, clock)
            mixture.learn(own, values, credit_block.decode(*blocks.own[request.block]), one)
            own.n += 1
    return whole, own


def _ever_charged(kind: Kind, asked: Sequence[Request], labels: Sequence[Feedback]) -> float:
    """Sum of |increments| if every label were charged and taken back: the scale of rounding."""
    total = 0.0
    for label in labels:
        for alone in oracle(kind, asked, [label]):
            total += float(sum(np.abs(array).sum() for array in alone.sums.values()))
    return total


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@given(data=st.data())
def test_any_interleaving_teaches_the_sum_over_the_winning_labels_of_parts(
    kind: Kind, data: st.DataObject
) -> None:
    asked, labels, schedule = data.draw(runs(kind))
    if data.draw(st.booleans(), label="on disk"):
        with TemporaryDirectory() as folder:
            store = RocksLabelStore(Path(folder) / "0")
            learned = learn(kind, store, asked, schedule)
            store.close()
    else:
        learned = learn(kind, MemoryLabelStore(), asked, schedule)
    bound = 1e-12 * max(1.0, _ever_charged(kind, asked, labels))
    for segment, expected in zip((None, "north"), oracle(kind, asked, labels), strict=True):
        if not expected.n:
            assert segment not in learned.by_segment
            continue
        part = learned.by_segment[segment]
        assert part.n == expected.n
        for name, array in expected.sums.items():
            assert np.abs(part.sums[name] - array).max() <= bound
        for name, array in expected.maxima.items():
            assert (part.maxima[name] >= array - bound).all()


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
@given(data=st.data())
def test_late_words_of_shadows_are_scored_by_each_labelled_part_before_or_after_it(
    kind: Kind, data: st.DataObject
) -> None:
    if not isinstance(kind.domain, ManyLabels):
        # What is taken back must not dwarf what is compared.
        kind = kind._replace(said=st.floats(-5, 5), labels=st.floats(-5, 5))
    tried = kind._replace(over=lambda members: WithTrials(kind.over(members), 0.1))
    asked, labels, schedule = data.draw(runs(kind))
    output = data.draw(st.lists(kind.said, min_size=3, max_size=3))
    trials = [
        Trial(
            version=1, kind="trial", request_id=f"r{r}", member="c", output=output, appended=1500,
            source=("p", 0, r, 0),
        )
        for r in range(len(asked))
    ]  # fmt: skip
    first = learn(tried, MemoryLabelStore(), asked, [*trials, *schedule])
    mixed = learn(tried, MemoryLabelStore(), asked, data.draw(st.permutations([*trials, *trials, *schedule])))
    last = learn(tried, MemoryLabelStore(), asked, [*schedule, *trials])
    scored = [
        about for about in winners(kind, labels) if not {"c"} <= asked[int(about[0][1:])].components.keys()
    ]
    for learned in (first, mixed, last):
        whole = learned.by_segment.get(None)
        counted = None if whole is None else whole.sums.get("trial@0.1/n")
        weights = {about: winners(kind, labels)[about].weight for about in scored}
        assert (0.0 if counted is None else counted[2]) == pytest.approx(sum(weights.values()))
    if labels:
        bound = 1e-10 * max(1.0, _ever_charged(kind, asked, labels))
        for name, array in first.by_segment[None].sums.items():
            for other in (mixed, last):
                assert np.abs(other.by_segment[None].sums[name] - array).max() <= bound


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_labels_of_one_chunk_are_told_apart_by_part_and_refused_one_by_one(kind: Kind) -> None:
    rules, blocks, store = Rules(kind.domain, 1000, 500), _credits(kind.over), MemoryLabelStore()
    changes = Changes(store)
    request = Request(0, {"a": [0.5, 0.25, 0.75], "b": [0.25, 0.5, 0.5]}, segment=False)
    take_answer(changes, rules, "r", answer(request, 0, blocks))

    def label(request_id: str, part: str | int, value: bool | float, appended: int = 1500) -> Feedback:
        origin = ("feedback", 0, appended, 0)
        return Feedback(request_id, PartLabel(part, value), 0, 1.0, appended, origin, lambda: b"raw")

    wrong = [
        label("r", "z", True),
        label("r", 3, 1.0),
        label("r", "p", float("nan")),
        label("r", "p", 1.0, 2001),
    ]
    right = [label("r", "q", 1.0), label("r", 1, 1.0, 1501), label("r", "r", 0.0), label("s", "p", 1.0)]
    charges = take_labels(changes, rules, [*wrong, *right], 1500)
    assert [dead.reason for dead in changes.dead] == [
        "unknown-part", "unknown-part", "label-out-of-range", "label-horizon",
    ]  # fmt: skip
    assert {dead.request_id for dead in changes.dead} == {"r"}
    assert [one.first for one in charges] == [True, True]
    assert [one.label for one in charges] == [kind.domain.meaning(right[0].label).number, 0]
    assert changes.counts["duplicate"] == 1
    assert changes.parked_count() == 1
    assert set(changes.verdicts) == {label_key("r", "q"), label_key("r", "r"), label_key("s", "p")}
