"""The backtest of segments is the live core: with credit as it is written, the answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.config import Learning
from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.charging import Learned, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.backtest import Stream
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.calibration import calibrated, calibration_of
from stream_ensemble.core.learning.choose import Options, make, named
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.core.learning.segments import play_segments
from stream_ensemble.messages import Credit, CreditBlock
from tests.property.test_backtest_live import MEMBERS, TASK, streams


class Live:
    """Each request fused, and each label charged in the partition of its request, as the workers do it."""

    def __init__(self, learning: Learning, partitions: int) -> None:
        self.algorithm = make(learning, TASK, MEMBERS)
        self.mixture = SegmentMixture(self.algorithm)
        self.blocks: dict[str, CreditBlock] = {}
        self.parts = [Learned(0, BySegment()) for _ in range(partitions)]
        self._over = lru_cache(partial(make, learning, TASK))

    def merged(self, segment: str | None) -> Contribution:
        return self.algorithm.merge(
            [learned.by_segment.get(segment, Contribution(MEMBERS)) for learned in self.parts]
        )

    def credit(self, segment: str | None) -> tuple[str, np.ndarray]:
        """Digest and numbers of a block that stands in the log from now on."""
        whole = self.merged(segment)
        values = (self.algorithm if segment is None else self.mixture).credit(whole)
        digest, self.blocks[digest] = credit_block.encode(self.algorithm.name, 0, whole.n, MEMBERS, values)
        return digest, values

    def learn(self, number: int, charges: Sequence[Charge]) -> None:
        known: Any = SimpleNamespace(block=self.blocks.get)
        place = number % len(self.parts)
        self.parts[place] = charge(self.parts[place], charges, known, self._over).learned

    def fuse(self, stream: Stream, t: int, segment: str) -> tuple[np.ndarray, Charge]:
        everywhere, whole = self.credit(None)
        own, local = self.credit(segment)
        outputs, awake = stream.outputs[t : t + 1], stream.awake[t : t + 1]
        components = {
            name: stream.outputs[t, k].tolist() for k, name in enumerate(MEMBERS) if stream.awake[t, k]
        }
        credit = Credit(everywhere=everywhere, segment=own)
        charged = Charge(credit, segment, components, int(stream.labels[t]), 1.0, 1, True)
        return self.mixture.fuse(whole, local, outputs, awake)[0], charged


def live(stream: Stream, segments: np.ndarray, world: Live) -> np.ndarray:
    charges: dict[int, Charge] = {}
    fused = []
    for t in range(len(stream.labels)):
        for s in np.flatnonzero(stream.arrival == t).tolist():
            world.learn(s, [charges[s]])
        output, charges[t] = world.fuse(stream, t, f"s{segments[t]}")
        by = calibration_of(world.merged(None))
        fused.append(output if by is None else calibrated(output[None], by)[0])
    return np.array(fused)


@settings(max_examples=60, deadline=None)
@given(
    streams(),
    st.sampled_from(["bank", "ml_poly", "uniform"]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 2**32),
)
def test_record_by_record(stream: Stream, name: str, partitions: int, contexts: int, seed: int) -> None:
    segments = np.random.default_rng(seed).integers(0, contexts, len(stream.labels))
    learning = Learning(algorithm=name, half_life=20.0)
    options = Options(half_life=20.0)
    played = play_segments(stream, segments, lambda: named(name, MEMBERS, LogLoss(), options), LogLoss())
    world = Live(learning, partitions)
    np.testing.assert_allclose(played.fused, live(stream, segments, world), atol=1e-9)
    learned = np.flatnonzero(stream.arrival < len(stream.labels))
    for segment in range(contexts):
        assert world.merged(f"s{segment}").n == (segments[learned] == segment).sum()


@settings(max_examples=30, deadline=None)
@given(streams(), st.sampled_from(["bank", "ml_poly"]), st.integers(1, 3), st.integers(0, 2**32))
def test_calibrated_record_by_record(stream: Stream, name: str, partitions: int, seed: int) -> None:
    segments = np.random.default_rng(seed).integers(0, 2, len(stream.labels))
    options = Options(half_life=20.0)
    played = play_segments(stream, segments, lambda: named(name, MEMBERS, LogLoss(), options), LogLoss())
    found = play_calibrated(stream, played.fused).fused
    world = Live(Learning(algorithm=name, half_life=20.0, calibration=True), partitions)
    np.testing.assert_allclose(found, live(stream, segments, world), atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(streams(), st.sampled_from(["bank", "ml_poly"]), st.integers(0, 2**32))
def test_order_groups_and_partitions_leave_a_segment_as_it_is(stream: Stream, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 2, len(stream.labels))
    learning = Learning(algorithm=name, half_life=20.0)
    charges: list[Charge] = []
    together = Live(learning, 1)
    for t in range(len(stream.labels)):
        charges.append(together.fuse(stream, t, f"s{segments[t]}")[1])
        together.learn(0, [charges[t]])
    apart = Live(learning, 3)
    apart.blocks = together.blocks
    order = rng.permutation(len(charges))
    for number, some in enumerate(np.array_split(order, 5)):
        apart.learn(number, [charges[t] for t in some.tolist()])
    for segment in together.parts[0].by_segment:
        one, other = together.merged(segment), apart.merged(segment)
        assert (one.n, one.clock) == (other.n, other.clock)
        for held, found in ((one.sums, other.sums), (one.maxima, other.maxima)):
            assert held.keys() == found.keys()
            for array in held:
                np.testing.assert_allclose(found[array], held[array], atol=1e-10, rtol=1e-9)
