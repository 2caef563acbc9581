"""Whatever the interleaving of fused records and labels, what is learned is the sum over the winning labels.

The oracle charges one winning label per request, one by one, in another order, with no store and no flush.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.charging import AlgorithmOver, Learned, charge
from stream_ensemble.core.labels.matching import take_answer, take_labels
from stream_ensemble.core.labels.records import Answer, Feedback
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.bank import Bank
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.messages import CreditBlock
from stream_ensemble.stores.labels import Position
from stream_ensemble.stores.memory_labels import MemoryLabelStore

MEMBERS = ("a", "b", "c")
CLASSES = ("x", "y", "z")
FOREVER = 10**12
RULES = Rules(Classes(CLASSES), FOREVER, FOREVER)


ALGORITHMS: list[AlgorithmOver] = [partial(MLPoly, half_life=5.0, floor=0.01), Bank]


def _blocks(over: AlgorithmOver) -> list[tuple[str, CreditBlock]]:
    """Credit at the clocks 0 (nothing learned), 3 and 20."""
    algorithm = over(MEMBERS)
    nothing = algorithm.credit(algorithm.merge([]))
    rng = np.random.default_rng(3)
    some = [(0, nothing), (3, rng.random(len(nothing))), (20, rng.random(len(nothing)))]
    return [credit_block.encode(algorithm.name, 0, n, MEMBERS, values) for n, values in some]


class Request(NamedTuple):
    """A request's fused record: which credit block, and the outputs of the awake members."""

    block: int
    components: dict[str, list[float]]

    def answer(self, offset: int, blocks: list[tuple[str, CreditBlock]]) -> Answer:
        digest, block = blocks[self.block]
        record = {"components": self.components, "credit": {"everywhere": digest, "blocks": {digest: block}}}
        return Answer(offset, 1000 + offset, msgspec.json.encode(record))


outputs = st.tuples(*[st.integers(1, 50)] * 3).map(lambda counts: [c / sum(counts) for c in counts])
requests = st.builds(
    Request,
    st.integers(0, 2),
    st.dictionaries(st.sampled_from(MEMBERS), outputs, min_size=1),
)


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Request], list[Feedback], list[object]]:
    """Requests, labels, and a schedule of fused records (a number), labels (some twice), flushes (None)."""
    asked = draw(st.lists(requests, min_size=1, max_size=6))
    drawn = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(asked) - 1),
                st.sampled_from(CLASSES),
                st.integers(0, 2),
                st.sampled_from([1.0, 0.5, 3.0]),
                st.integers(0, 5),
            ),
            max_size=10,
        )
    )
    labels = [
        Feedback(f"r{r}", name, revision, weight, 2000 + at, ("feedback", 0, offset, 0), bytes)
        for offset, (r, name, revision, weight, at) in enumerate(drawn)
    ]
    again = draw(st.lists(st.sampled_from(labels), max_size=3)) if labels else []
    flushes: list[None] = [None] * draw(st.integers(0, 4))
    return asked, labels, draw(st.permutations([*range(len(asked)), *labels, *again, *flushes]))


def learn(over: AlgorithmOver, asked: Sequence[Request], schedule: Sequence[object]) -> Learned:
    """As one partition does: changes over a store, charges gathered until a flush."""
    blocks = _blocks(over)
    store = MemoryLabelStore()
    changes = Changes(store)
    learned = Learned(0, BySegment())
    charges: list[object] = []
    for event in [*schedule, None]:
        if event is None:
            learned = charge(learned, charges, changes, over).learned  # type: ignore[arg-type]
            store.write(changes, Position("me", 0, 0, 0))
            changes, charges = Changes(store), []
        elif isinstance(event, Feedback):
            charges += take_labels(changes, RULES, [event], 0)
        else:
            assert isinstance(event, int)
            charges += take_answer(changes, RULES, f"r{event}", asked[event].answer(event, blocks))
    assert store.parked_count() == 0
    return learned


def winners(labels: Sequence[Feedback]) -> dict[str, Feedback]:
    best: dict[str, Feedback] = {}
    for label in labels:
        held = best.get(label.request_id)
        if held is None or _place(label) > _place(held):
            best[label.request_id] = label
    return best


def _place(label: Feedback) -> tuple[int, int, object]:
    return label.revision, label.appended, label.origin


def oracle(over: AlgorithmOver, asked: Sequence[Request], labels: Sequence[Feedback]) -> Contribution:
    blocks = _blocks(over)
    part = Contribution(MEMBERS)
    for request_id, label in sorted(winners(labels).items(), reverse=True):
        request = asked[int(request_id[1:])]
        digest, block = blocks[request.block]
        outputs = np.zeros((1, 3, 3))
        awake = np.zeros((1, 3), np.bool_)
        for k, member in enumerate(MEMBERS):
            if member in request.components:
                outputs[0, k], awake[0, k] = request.components[member], True
        one = Labelled(
            outputs,
            awake,
            np.array([CLASSES.index(str(label.label))]),
            np.array([label.weight]),
            float(block.n),
        )
        over(MEMBERS).learn(part, credit_block.decode(digest, block), one)
        part.n += 1
    return part


def _ever_charged(over: AlgorithmOver, asked: Sequence[Request], labels: Sequence[Feedback]) -> float:
    """Sum of |increments| if every label were charged and taken back: the scale of rounding."""
    total = 0.0
    for label in labels:
        alone = oracle(over, asked, [label])
        total += float(sum(np.abs(array).sum() for array in alone.sums.values()))
    return total


@pytest.mark.parametrize("over", ALGORITHMS)
@given(run=runs())
def test_any_interleaving_teaches_the_sum_over_the_winning_labels(
    over: AlgorithmOver,
    run: tuple[list[Request], list[Feedback], list[object]],
) -> None:
    asked, labels, schedule = run
    learned = learn(over, asked, schedule)
    expected = oracle(over, asked, labels)
    if not labels:
        assert not learned.by_segment
        return
    part = learned.by_segment[None]
    assert part.n == expected.n == len(winners(labels))
    # A correction may leave the clock of a label that was taken back; it is that of the same block.
    assert part.clock == expected.clock
    bound = 1e-12 * max(1.0, _ever_charged(over, asked, labels))
    for name, array in expected.sums.items():
        assert np.abs(part.sums[name] - array).max() <= bound
    for name, array in expected.maxima.items():
        # A maximum is not taken back, so a corrected label may have left a larger one.
        assert (part.maxima[name] >= array - bound).all()
        if len(labels) == len(winners(labels)):
            assert np.abs(part.maxima[name] - array).max() <= bound


@pytest.mark.parametrize("over", ALGORITHMS)
@given(run=runs())
def test_labels_split_over_partitions_pool_to_the_same_weights(
    over: AlgorithmOver, run: tuple[list[Request], list[Feedback], list[object]]
) -> None:
    asked, labels, schedule = run
    together = learn(over, asked, schedule)
    apart = [
        learn(
            over,
            asked,
            [
                event
                for event in schedule
                if not isinstance(event, Feedback) or int(event.request_id[1:]) % 3 == partition
            ],
        )
        for partition in range(3)
    ]
    parts = [learned.by_segment[None] for learned in apart if None in learned.by_segment]
    if not labels:
        assert not parts
        return
    pooled, whole = over(MEMBERS).merge(parts), over(MEMBERS).merge([together.by_segment[None]])
    bound = 1e-12 * max(1.0, _ever_charged(over, asked, labels))
    assert pooled.n == whole.n
    for name, array in whole.sums.items():
        assert np.abs(pooled.sums[name] - array).max() <= bound
