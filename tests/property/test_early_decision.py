"""An early decision against brute force: nothing the awaited members may answer changes the label."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream_ensemble.core.fusion.early import MOST_AWAITED, decided_early
from stream_ensemble.core.learning.pooling import over_awake

shares = st.integers(0, 8).map(lambda n: n / 8)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, float, int, int]:
    k, v = draw(st.integers(2, 4)), draw(st.integers(2, 3))
    raw = np.array(draw(st.lists(st.integers(0, 6), min_size=k * v, max_size=k * v)), float).reshape(k, v)
    raw[raw.sum(axis=1) == 0] = 1.0
    outputs = raw / raw.sum(axis=1, keepdims=True)
    values = np.array(draw(st.lists(shares, min_size=k, max_size=k)))
    awake = draw(st.integers(1, 2**k - 2))
    awaited = draw(st.integers(1, 2**k - 1)) & ~awake or (2**k - 1) & ~awake
    return outputs, values, draw(st.sampled_from([0.0, 0.01, 0.3])), awake, awaited


def bits(mask: int, k: int) -> np.ndarray:
    return np.array([mask >> i & 1 for i in range(k)], np.bool_)


@given(cases())
def test_it_is_certain_exactly_when_no_answer_can_change_the_label(
    case: tuple[np.ndarray, np.ndarray, float, int, int],
) -> None:
    outputs, values, floor, awake, awaited = case
    k, v = outputs.shape

    def pooled(mask: int) -> np.ndarray:
        return over_awake(values, bits(mask, k)[None], floor)[0]

    [certain] = decided_early(
        outputs[None] * bits(awake, k)[None, :, None],
        np.array([awake], np.uint64),
        np.array([awaited], np.uint64),
        pooled,
    )
    label = (pooled(awake) @ (outputs * bits(awake, k)[:, None])).argmax()
    missing = [i for i in range(k) if awaited >> i & 1]
    leads = []
    # The corners of what may come: each awaited member says nothing, or is sure of one class.
    for answers in itertools.product([None, *range(v)], repeat=len(missing)):
        final, mask = outputs * bits(awake, k)[:, None], awake
        for member, answer in zip(missing, answers, strict=True):
            if answer is not None:
                final[member] = np.eye(v)[answer]
                mask |= 1 << member
        scores = pooled(mask) @ final
        leads.append(scores[label] - np.delete(scores, label).max())
    if certain:
        assert min(leads) > 0
    elif min(leads) > 1e-8:
        raise AssertionError(f"it is certain by {min(leads)}, and was not decided")


def test_with_many_awaited_nothing_is_decided() -> None:
    k = MOST_AWAITED + 2
    outputs = np.zeros((1, k, 2))
    outputs[0, 0] = (1.0, 0.0)
    awaited = np.array([2**k - 2], np.uint64)
    weights = np.array([1.0] + [0.0] * (k - 1))
    assert not decided_early(outputs, np.array([1], np.uint64), awaited, lambda _: weights).any()
    assert decided_early(
        outputs, np.array([1], np.uint64), np.array([2**k - 2 - 2 ** (k - 1)], np.uint64), lambda _: weights
    ).all()


def test_every_request_is_judged_by_its_own_members() -> None:
    outputs = np.zeros((3, 3, 2))
    outputs[:, 0] = (0.9, 0.1)
    outputs[1, 1] = (1.0, 0.0)
    outputs[2, 1] = (0.0, 1.0)
    awake = np.array([0b001, 0b011, 0b011], np.uint64)
    awaited = np.array([0b110, 0b100, 0b100], np.uint64)
    certain = decided_early(outputs, awake, awaited, lambda mask: bits(mask, 3) / mask.bit_count())
    assert certain.tolist() == [False, True, False]
