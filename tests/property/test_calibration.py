"""What labels teach the temperatures: additive in any order, taken back by corrections, of what was issued,
and without a trace in the weights.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.config import Guardrail, Learning
from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.charging import Learned, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.learning import calibration, credit_block
from stream_ensemble.core.learning.backtest import Stream
from stream_ensemble.core.learning.calibration import HALF_LIFE, LOSSES
from stream_ensemble.core.learning.choose import make
from tests.property.test_backtest_live import TASK, streams
from tests.property.test_backtest_segments import Live

NAMES = ("bank", "ml_poly", "uniform")


class Asked:
    """A stream answered live, each label at once; and the charges that taught it."""

    def __init__(self, stream: Stream, name: str, *, segments: int, **learning: Any) -> None:
        self.live = Live(Learning(algorithm=name, half_life=20.0, **learning), 1)
        self.charges: list[Charge] = []
        self.issued: list[np.ndarray] = []
        self.clocks: list[int] = []
        for t in range(len(stream.labels)):
            output, one = self.live.fuse(stream, t, f"s{t % max(segments, 1)}")
            if not segments:
                one = one._replace(segment=None, credit=self.only_everywhere(one))
                output = self.of_whole(one, stream, t)
            self.issued.append(output)
            self.clocks.append(self.live.blocks[one.credit.everywhere].n)
            self.charges.append(one)
            self.live.learn(0, [one])

    @staticmethod
    def only_everywhere(one: Charge) -> Any:
        return type(one.credit)(everywhere=one.credit.everywhere)

    def of_whole(self, one: Charge, stream: Stream, t: int) -> np.ndarray:
        values = values_of(self.live, one.credit.everywhere)
        fused: np.ndarray = self.live.algorithm.fuse(
            values, stream.outputs[t : t + 1], stream.awake[t : t + 1]
        )[0]
        return fused


def values_of(live: Live, digest: str) -> np.ndarray:
    return credit_block.decode(digest, live.blocks[digest])


def learned(live: Live, groups: list[list[Charge]], learning: Learning) -> Learned:
    known: Any = type("Known", (), {"block": staticmethod(live.blocks.get)})
    over = lru_cache(partial(make, learning, TASK))
    held = Learned(0, BySegment())
    for group in groups:
        held = charge(held, group, known, over).learned
    return held


@settings(max_examples=30, deadline=None)
@given(streams(), st.sampled_from(NAMES), st.sampled_from([0, 2]))
def test_the_sums_are_those_of_what_was_issued(stream: Stream, name: str, segments: int) -> None:
    asked = Asked(stream, name, segments=segments, calibration=True)
    whole = asked.live.merged(None)
    taught = calibration.losses(np.array(asked.issued), stream.labels)
    age = whole.clock - np.array(asked.clocks)
    expected = (taught * 2.0 ** (-age / HALF_LIFE)[:, None]).sum(axis=0)
    np.testing.assert_allclose(whole.sums[LOSSES], expected, rtol=1e-12, atol=1e-12 * np.abs(taught).sum())
    for segment in asked.live.parts[0].by_segment:
        if segment is not None:
            assert LOSSES not in asked.live.merged(segment).sums


@settings(max_examples=30, deadline=None)
@given(streams(), st.sampled_from(NAMES), st.sampled_from([0, 2]), st.booleans())
def test_the_weights_are_learned_the_same_to_the_bit(
    stream: Stream, name: str, segments: int, guarded: bool
) -> None:
    more = {"guardrail": Guardrail(enabled=True)} if guarded else {}
    off, on = (Asked(stream, name, segments=segments, calibration=c, **more) for c in (False, True))
    assert off.live.blocks == on.live.blocks
    for segment, part in off.live.parts[0].by_segment.items():
        beside = on.live.parts[0].by_segment[segment]
        assert (beside.n, beside.clock) == (part.n, part.clock)
        assert set(beside.sums) - {LOSSES} == set(part.sums)
        for arrays, others in ((part.sums, beside.sums), (part.maxima, beside.maxima)):
            for array in arrays:
                np.testing.assert_array_equal(others[array], arrays[array])
    for one, other in zip(off.issued, on.issued, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=30, deadline=None)
@given(streams(), st.sampled_from(NAMES), st.sampled_from([0, 2]), st.integers(0, 2**32))
def test_order_groups_partitions_and_corrections_leave_them_as_they_are(
    stream: Stream, name: str, segments: int, seed: int
) -> None:
    learning = Learning(algorithm=name, half_life=20.0, calibration=True)
    asked = Asked(stream, name, segments=segments, calibration=True)
    rng = np.random.default_rng(seed)
    wrong = [one._replace(label=(one.label + 1) % 3) for one in asked.charges]
    corrected = [c for w in wrong for c in (w, w._replace(sign=-1, first=False))]
    each = asked.charges + [c for pair in zip(corrected[::2], corrected[1::2], strict=True) for c in pair]
    order = rng.permutation(len(each))
    groups = [[each[i] for i in some] for some in np.array_split(order, 4)]
    half = len(groups) // 2
    halves = [learned(asked.live, some, learning) for some in (groups[:half], groups[half:])]
    parts = [part.by_segment[None] for part in halves if None in part.by_segment]
    found = asked.live.algorithm.merge(parts).sums[LOSSES]
    size = sum(
        np.abs(calibration.losses(np.array(asked.issued), (stream.labels + k) % 3)).sum(axis=0)
        for k in (0, 1, 1)
    )
    assert (np.abs(found - asked.live.merged(None).sums[LOSSES]) <= 1e-12 * (size + 1e-300) + 1e-300).all()


@pytest.mark.parametrize("generation", [0, 1])
def test_a_label_of_older_credit_teaches_no_temperature(generation: int) -> None:
    rng = np.random.default_rng(0)
    stream = Stream(
        rng.dirichlet(np.ones(3), (4, 3)), np.ones((4, 3), np.bool_), np.arange(4) % 3, np.arange(4)
    )
    asked = Asked(stream, "ml_poly", segments=0, calibration=True)
    known: Any = type("Known", (), {"block": staticmethod(asked.live.blocks.get)})
    over = lru_cache(partial(make, Learning(algorithm="ml_poly", calibration=True), TASK))
    found = charge(Learned(generation, BySegment()), asked.charges, known, over)
    assert (None in found.learned.by_segment) == (generation == 0)
