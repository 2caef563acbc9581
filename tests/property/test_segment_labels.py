"""Whatever the interleaving of fused records and labels, a segment learns the sum over its winning labels.

The runs, and the way to learn them, are those of ``test_labels``; here every request is of a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
from hypothesis import given

from stream_ensemble.core.labels.charging import AlgorithmOver
from stream_ensemble.core.labels.records import Answer, Feedback
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.messages import CreditBlock
from tests.property.test_labels import (
    ALGORITHMS,
    CLASSES,
    MEMBERS,
    Request,
    _blocks,
    learn,
    oracle,
    runs,
    winners,
)

Blocks = list[tuple[str, CreditBlock]]


@dataclass(frozen=True)
class Asked:
    """A request of a segment: what ``test_labels`` makes of it, and one of the segment's credit blocks."""

    request: Request
    segment: str
    own: Blocks

    @property
    def credit(self) -> tuple[str, CreditBlock]:
        return self.own[self.request.block]

    def answer(self, offset: int, blocks: Blocks) -> Answer:
        held = dict([blocks[self.request.block], self.credit])
        credit = {"everywhere": blocks[self.request.block][0], "segment": self.credit[0], "blocks": held}
        record = {"components": self.request.components, "segment": self.segment, "credit": credit}
        return Answer(offset, 1000 + offset, msgspec.json.encode(record))


def own_blocks(mixture: SegmentMixture) -> Blocks:
    """Credit of a segment at the clocks 0 (nothing learned, and nothing to believe), 2 and 9."""
    rng = np.random.default_rng(4)
    some = [(0, mixture.credit(mixture.merge([])))] + [(n, rng.random(mixture.width + 2)) for n in (2, 9)]
    return [credit_block.encode(mixture.name, 0, n, MEMBERS, values) for n, values in some]


def expected(
    over: AlgorithmOver, asked: Sequence[Asked], labels: Sequence[Feedback], segment: str
) -> Contribution:
    blocks, mixture, part = _blocks(over), SegmentMixture(over(MEMBERS)), Contribution(MEMBERS)
    for request_id, label in sorted(winners(labels).items(), reverse=True):
        one = asked[int(request_id[1:])]
        if one.segment != segment:
            continue
        components = one.request.components
        awake = np.array([[member in components for member in MEMBERS]])
        outputs = np.array([[components.get(member, [0.0] * 3) for member in MEMBERS]])
        everywhere, own = (credit_block.decode(*block) for block in (blocks[one.request.block], one.credit))
        number = np.array([CLASSES.index(str(label.label))])
        labelled = Labelled(outputs, awake, number, np.array([label.weight]), float(one.credit[1].n))
        mixture.learn(part, everywhere, own, labelled)
        part.n += 1
    return part


def _size(over: AlgorithmOver, asked: Sequence[Asked], labels: Sequence[Feedback], segment: str) -> float:
    """Sum of |increments| if every label were charged and taken back: the scale of rounding."""
    alone = [expected(over, asked, [label], segment) for label in labels]
    return float(sum(np.abs(array).sum() for part in alone for array in part.sums.values()))


@pytest.mark.parametrize("over", ALGORITHMS)
@given(run=runs())
def test_any_interleaving_teaches_each_segment_the_sum_over_its_winning_labels(
    over: AlgorithmOver, run: tuple[list[Request], list[Feedback], list[object]]
) -> None:
    requests, labels, schedule = run
    own = own_blocks(SegmentMixture(over(MEMBERS)))
    asked = [Asked(request, "north" if r % 2 else "south", own) for r, request in enumerate(requests)]
    learned = learn(over, asked, schedule)  # type: ignore[arg-type]
    if labels:
        assert learned.by_segment[None].n == oracle(over, requests, labels).n
    for segment in ("north", "south"):
        wanted = expected(over, asked, labels, segment)
        if not wanted.n:
            assert segment not in learned.by_segment
            continue
        part = learned.by_segment[segment]
        assert (part.n, part.clock) == (wanted.n, wanted.clock)
        bound = 1e-12 * max(1.0, _size(over, asked, labels, segment))
        for name, array in wanted.sums.items():
            assert np.abs(part.sums[name] - array).max() <= bound, name
