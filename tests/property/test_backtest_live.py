"""The backtest is the live learner: record by record, with written credit, the answers are the same."""

from __future__ import annotations

from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_ensemble.config import Learning, Task
from stream_ensemble.core.labels.by_segment import BySegment
from stream_ensemble.core.labels.charging import Learned, charge
from stream_ensemble.core.labels.matching import Charge
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.calibration import calibrated, calibrates, calibration_of
from stream_ensemble.core.learning.choose import Options, make, named
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import LogLoss
from stream_ensemble.core.learning.schedule import NEVER
from stream_ensemble.messages import Credit, CreditBlock

K, CLASSES = 3, 3
MEMBERS = tuple(f"m{k}" for k in range(K))
TASK = Task(classes=["x", "y", "z"])


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    rows = draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    awake = rng.random((rows, K)) > draw(st.sampled_from([0.0, 0.4]))
    awake[~awake.any(axis=1), 0] = True
    labels = rng.integers(0, CLASSES, rows)
    outputs = (
        rng.dirichlet(np.ones(CLASSES), (rows, K)) + np.eye(CLASSES)[labels][:, None] * rng.random(K)[:, None]
    )
    outputs = np.where(awake[..., None], outputs / outputs.sum(axis=2, keepdims=True), 0.0)
    delays = rng.integers(0, draw(st.sampled_from([1, 5, 60])), rows)
    arrival = np.arange(rows) + 1 + delays
    arrival[rng.random(rows) < draw(st.sampled_from([0.0, 0.2]))] = NEVER
    return Stream(outputs, awake, labels, arrival)


def live(stream: Stream, learning: Learning, partitions: int) -> np.ndarray:
    """Each request fused, and each label charged in the partition of its request, as the workers do it."""
    algorithm = make(learning, TASK, MEMBERS)
    over = lru_cache(partial(make, learning, TASK))
    blocks: dict[str, CreditBlock] = {}
    known: Any = SimpleNamespace(block=blocks.get)
    parts = [Learned(0, BySegment()) for _ in range(partitions)]
    charges: dict[int, Charge] = {}
    fused = []
    for t in range(len(stream.labels)):
        for s in np.flatnonzero(stream.arrival == t).tolist():
            parts[s % partitions] = charge(parts[s % partitions], [charges[s]], known, over).learned
        whole = algorithm.merge([part.by_segment.get(None, Contribution(MEMBERS)) for part in parts])
        values = algorithm.credit(whole)
        digest, block = credit_block.encode(algorithm.name, 0, whole.n, MEMBERS, values)
        blocks[digest] = block
        output = algorithm.fuse(values, stream.outputs[t : t + 1], stream.awake[t : t + 1])
        by = calibration_of(whole) if calibrates(algorithm) else None
        fused.append((output if by is None else calibrated(output, by))[0])
        components = {
            name: stream.outputs[t, k].tolist() for k, name in enumerate(MEMBERS) if stream.awake[t, k]
        }
        charges[t] = Charge(Credit(everywhere=digest), None, components, int(stream.labels[t]), 1.0, 1, True)
    return np.array(fused)


@settings(max_examples=40, deadline=None)
@given(streams(), st.sampled_from(["bank", "ml_poly", "uniform"]), st.integers(1, 4))
def test_record_by_record(stream: Stream, name: str, partitions: int) -> None:
    learning = Learning(algorithm=name, half_life=20.0)
    played = play(stream, named(name, MEMBERS, LogLoss(), Options(half_life=20.0)), LogLoss())
    np.testing.assert_allclose(played.fused, live(stream, learning, partitions), atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(streams(), st.sampled_from(["bank", "ml_poly", "uniform"]), st.integers(1, 4))
def test_calibrated_record_by_record(stream: Stream, name: str, partitions: int) -> None:
    learning = Learning(algorithm=name, half_life=20.0, calibration=True)
    played = play(stream, named(name, MEMBERS, LogLoss(), Options(half_life=20.0)), LogLoss())
    found = play_calibrated(stream, played.fused).fused
    np.testing.assert_allclose(found, live(stream, learning, partitions), atol=1e-9)
