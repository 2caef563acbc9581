"""Segments: weights of their own, beside the global ones."""

from __future__ import annotations

import numpy as np

from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.losses import Absolute
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.schedule import NEVER, delayed
from stream_ensemble.core.learning.segments import play_segments
from tests.unit.learning.batches import names

ROWS = 1200


def _two_worlds(differ: bool) -> tuple[Stream, np.ndarray]:
    """Members 0 and 1 are good; where the worlds differ, each in one segment only."""
    rng = np.random.default_rng(0)
    segments = rng.integers(0, 2, ROWS)
    y = rng.normal(0, 1, ROWS)
    noise = np.array([[0.1, 2.0, 2.0], [2.0, 0.1, 2.0]])[segments if differ else np.zeros(ROWS, np.int64)]
    outputs = (y[:, None] + rng.normal(0, 1, (ROWS, 3)) * noise)[..., None]
    return Stream(outputs, np.ones((ROWS, 3), np.bool_), y, delayed(ROWS, 20)), segments


def _make() -> MLPoly:
    return MLPoly(names(3), loss=Absolute())


def test_where_segments_differ_their_own_weights_win() -> None:
    stream, segments = _two_worlds(differ=True)
    ours = play_segments(stream, segments, _make, Absolute())
    alike = play(stream, _make(), Absolute())
    assert ours.losses.mean() < 0.5 * alike.losses.mean()
    last = np.flatnonzero(segments == 1)[-1]
    assert ours.weights[last].argmax() == 1
    assert ours.n == alike.n
    np.testing.assert_allclose(ours.weights.sum(axis=1), 1.0, rtol=1e-12)


def test_where_they_are_alike_they_cost_little() -> None:
    stream, segments = _two_worlds(differ=False)
    ours = play_segments(stream, segments, _make, Absolute()).losses.mean()
    assert ours < 1.05 * play(stream, _make(), Absolute()).losses.mean()


def test_the_fused_value_is_the_mean_with_the_weights() -> None:
    stream, segments = _two_worlds(differ=True)
    ours = play_segments(stream, segments, _make, Absolute())
    np.testing.assert_allclose(
        ours.fused, np.einsum("rk,rkc->rc", ours.weights, stream.outputs), rtol=1e-9, atol=1e-12
    )


def test_a_label_is_unknown_in_its_segment_too_until_it_arrives() -> None:
    stream, segments = _two_worlds(differ=True)
    late = np.full(ROWS, NEVER)
    late[0] = 600
    first = play_segments(
        Stream(stream.outputs, stream.awake, stream.labels, late), segments, _make, Absolute()
    )
    np.testing.assert_allclose(first.weights[:600], 1 / 3, rtol=1e-12)
    assert (first.weights[600:] != first.weights[0]).any(axis=1).all()
