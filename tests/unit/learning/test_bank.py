"""What only the bank has: two levels, geometric arms, arms known by name."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.config import Learning, Task
from stream_ensemble.core.learning import credit_block
from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.bank import GEOMETRIC_ARMS, LINEAR_ARMS, Arm, Bank
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import from_bytes, to_bytes
from stream_ensemble.core.learning.losses import Absolute, LogLoss
from stream_ensemble.core.learning.ml_poly import MLPoly
from stream_ensemble.core.learning.schedule import delayed
from stream_ensemble.core.learning.uniform import uniform
from tests.unit.learning.batches import batch, learned, names, rows_of, trained

ARMS = len(LINEAR_ARMS) + len(GEOMETRIC_ARMS)


def test_an_arms_regret_is_that_of_its_mixture_against_the_issued_one() -> None:
    bank = Bank(names(4))
    credit = bank.credit(trained(bank, "bank"))
    one = rows_of(batch("bank", 1, missing=0.0), [0])
    issued = bank.fuse(credit, one.outputs, one.awake)[0, one.labels[0]]
    taught = bank.increments(credit, one)
    for j, arm in enumerate([*LINEAR_ARMS, Arm("uniform", None), *GEOMETRIC_ARMS]):
        alone = credit.copy()
        alone[ARMS * 4 :] = np.eye(ARMS + 1)[j]
        # The top's floor still mixes a little of every arm in: take it out again.
        even = credit.copy()
        even[ARMS * 4 :] = 1.0
        mixed, mean = (bank.fuse(c, one.outputs, one.awake)[0, one.labels[0]] for c in (alone, even))
        mixture = (mixed - 0.01 * mean) / 0.99
        assert taught.sums[f"top/{arm.name}"][0, 0] == pytest.approx(mixture / issued - 1, rel=1e-9)


def test_an_arm_learns_what_ml_poly_of_its_half_life_learns() -> None:
    bank = Bank(names(4), arms=(Arm("30", 30.0),), floor=0.01)
    lone = MLPoly(names(4), half_life=30.0)
    part, other = trained(bank, "bank"), trained(lone, "bank")
    np.testing.assert_allclose(part.sums["30/R"], other.sums["R"], rtol=1e-12)
    np.testing.assert_allclose(part.sums["30/V"], other.sums["V"], rtol=1e-12)


def test_credit_and_contribution_survive_being_written() -> None:
    bank = Bank(names(3))
    part = trained(bank, "bank")
    values = bank.credit(bank.merge([part]))
    assert values.shape == (ARMS * 3 + ARMS + 1,)
    digest, block = credit_block.encode(bank.name, 0, part.n, bank.members, values)
    assert (credit_block.decode(digest, block) == values).all()
    assert (bank.credit(bank.merge([from_bytes(to_bytes(part))])) == values).all()


def test_a_new_arm_leaves_what_the_others_have_learned() -> None:
    few, all_of_them = Bank(names(4), arms=LINEAR_ARMS), Bank(names(4))
    part = trained(few, "bank")
    before, after = few.credit(part), all_of_them.credit(all_of_them.merge([part]))
    assert (after[: 4 * len(LINEAR_ARMS)] == before[: 4 * len(LINEAR_ARMS)]).all()
    assert (after[4 * len(LINEAR_ARMS) : 4 * ARMS] == 0).all()


def test_as_many_arms_as_members_do_not_confuse_it() -> None:
    """Arrays about arms stay in their order when members change places."""
    bank = Bank(("a", "b"), arms=(Arm("50", 50.0),))
    part = trained(bank, "bank")
    swapped = Bank(("b", "a"), arms=(Arm("50", 50.0),)).merge([part])
    assert (swapped.sums["top/50"] == part.sums["top/50"]).all()
    assert (swapped.sums["50/R"] == part.sums["50/R"][::-1]).all()


def test_geometric_arms_are_for_log_loss() -> None:
    assert not Bank(names(2)).linear
    assert Bank(names(2), Absolute()).linear


@pytest.mark.parametrize("delay", [0, 20])
def test_better_than_uniform_and_than_every_member(delay: int) -> None:
    labelled = batch("bank", 1500, missing=0.0)
    # Every member knows something the others do not.
    rng = np.random.default_rng(5)
    noise = rng.gamma(0.6, 1.0, labelled.outputs.shape)
    truth = np.eye(3)[labelled.labels][:, None] * rng.exponential(1.5, (1500, 4, 1))
    outputs = noise + truth + 0.05
    outputs /= outputs.sum(axis=2, keepdims=True)
    stream = Stream(outputs, labelled.awake, labelled.labels, delayed(1500, delay))
    ours = play(stream, Bank(names(4)), LogLoss()).losses.mean()
    assert ours < play(stream, uniform(names(4)), LogLoss()).losses.mean()
    assert ours < (-np.log(outputs[np.arange(1500), :, labelled.labels])).mean(axis=0).min()


@pytest.mark.parametrize("name", ["ml_poly", "uniform", "fixed"])
def test_the_settings_name_the_algorithm(name: str) -> None:
    learning = Learning(algorithm=name, weights={"m0": 1.0, "m1": 3.0} if name == "fixed" else None)
    algorithm = make(learning, Task(classes=["x", "y"]), names(2))
    assert algorithm.name == name
    weights = algorithm.pool(algorithm.credit(algorithm.merge([])), np.ones((1, 2), np.bool_))[0]
    np.testing.assert_allclose(weights, [0.25, 0.75] if name == "fixed" else [0.5, 0.5], rtol=1e-12)


def test_learning_is_the_same_whoever_asks_for_it() -> None:
    """Two algorithms of the same settings are interchangeable: nothing is kept in the object."""
    labelled = batch("bank", 20)
    assert to_bytes(learned(Bank(names(4)), labelled)) == to_bytes(learned(Bank(names(4)), labelled))
