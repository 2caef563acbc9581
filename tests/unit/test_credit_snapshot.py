"""What contributions make together: temperatures beside the credit, where the settings ask for them."""

from __future__ import annotations

import numpy as np

from stream_ensemble.config import Learning, Task
from stream_ensemble.core.learning.calibration import GRID, KNOTS, LOSSES, calibration_of, losses
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.messages import Calibration
from stream_ensemble.stores.contributions import Order, Stored
from stream_ensemble.stores.credit_snapshot import Pool

MEMBERS = ("a", "b")
TASK = Task(classes=["x", "y"])
ON, OFF = (make(Learning(algorithm="ml_poly", calibration=on), TASK, MEMBERS) for on in (True, False))


def part(*truths: int) -> Contribution:
    """What labels teach for which x was answered with 0.8."""
    taught = losses(np.tile([0.8, 0.2], (len(truths), 1)), np.array(truths)).sum(axis=0)
    return Contribution(MEMBERS, {LOSSES: taught}, n=len(truths), clock=5.0)


def field(of: Contribution, generation: int = 0) -> Stored:
    return Stored(Order(generation, 1, 1), to_bytes(of))


def test_temperatures_are_of_what_all_partitions_have_learned() -> None:
    one, other = part(0, 0, 0, 1), part(1, 1, 1, 0, 1)
    both = Contribution(MEMBERS, {LOSSES: one.sums[LOSSES] + other.sums[LOSSES]})
    snapshot = Pool(ON).snapshot({0: field(one), 1: field(other)})
    assert snapshot.calibration == calibration_of(both)
    assert snapshot.calibration is not None
    assert max(snapshot.calibration.confidence) > 1.02


def test_they_are_discounted_to_the_common_clock() -> None:
    old, new = part(1, 1, 1, 1), Contribution(MEMBERS, {}, n=1, clock=1e6)
    snapshot = Pool(ON).snapshot({0: field(old), 1: field(new)})
    assert snapshot.calibration is not None
    np.testing.assert_allclose(snapshot.calibration.confidence, 1.0, atol=1e-12)


def test_there_are_none_before_the_first_label_and_none_unless_asked_for() -> None:
    fields = {0: field(part(1, 1, 1))}
    assert Pool(ON).snapshot({}).calibration is None
    assert Pool(ON).snapshot({0: field(Contribution(MEMBERS, n=3))}).calibration is None
    assert Pool(OFF).snapshot(fields).calibration is None
    on, off = Pool(ON).snapshot(fields), Pool(OFF).snapshot(fields)
    assert (on.digest, on.version) == (off.digest, off.version)


def test_a_reset_forgets_them() -> None:
    pool = Pool(ON)
    assert pool.snapshot({0: field(part(1, 1, 1)), 1: field(part(1, 1))}).calibration is not None
    after = pool.snapshot({0: field(Contribution(MEMBERS), 1), 1: field(part(1, 1))})
    assert (after.version.generation, after.calibration) == (1, None)


def test_a_learner_of_other_members_teaches_the_same_temperatures() -> None:
    of_three = Contribution(("b", "c", "a"), part(1, 1, 1).sums, n=3, clock=5.0)
    found = Pool(ON).snapshot({0: field(of_three)}).calibration
    assert found == Pool(ON).snapshot({0: field(part(1, 1, 1))}).calibration
    assert isinstance(found, Calibration)
    assert len(part(1).sums[LOSSES]) == (len(KNOTS) + 1) * len(GRID)
