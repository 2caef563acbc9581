"""Losses and regrets: torch's autograd and finite numbers are the oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss

from stream_ensemble.core.learning import geometric
from stream_ensemble.core.learning.losses import (
    Absolute,
    Brier,
    LogLoss,
    Loss,
    Pinball,
    Square,
    regrets,
)

LOSSES: list[Loss] = [LogLoss(), Brier(), Square(), Absolute(), Pinball((0.1, 0.5, 0.8))]
by_name = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def _of(loss: Loss, mean: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The loss of R fused outputs, written once more in torch."""
    if loss.name == "log":
        return torch.nn.functional.nll_loss(mean.log(), y, reduction="none")
    if loss.name == "brier":
        return ((mean - torch.nn.functional.one_hot(y, 3)) ** 2).sum(1)
    over = mean - y[:, None]
    if loss.name == "square":
        return (over**2).sum(1)
    if loss.name == "absolute":
        return over.abs().sum(1)
    taus = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    return torch.maximum((1 - taus) * over, -taus * over).mean(1)


def _example(loss: Loss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    outputs = rng.dirichlet(np.ones(3) * 2, (20, 5))
    labels = rng.integers(0, 3, 20) if loss.name in ("log", "brier") else rng.normal(0.3, 0.2, 20)
    return outputs, labels, rng.random((20, 5))


@by_name
def test_regret_is_the_gradient_by_unnormalised_weights(loss: Loss) -> None:
    """``dL/dw_i = L'(p) (p_i - p) / sum w = -r_i / sum w``."""
    outputs, labels, raw = _example(loss)
    w = torch.tensor(raw, requires_grad=True)
    mean = (w[:, :, None] * torch.tensor(outputs)).sum(1) / w.sum(1, keepdim=True)
    value = _of(loss, mean, torch.tensor(labels))
    (gradient,) = torch.autograd.grad(value.sum(), w)
    share = raw / raw.sum(axis=1, keepdims=True)
    points = loss.points(outputs, labels)
    r = regrets(loss, points, share[:, None], np.ones((20, 5), np.bool_), labels)[:, 0]
    np.testing.assert_allclose(-r / raw.sum(axis=1, keepdims=True), gradient.numpy(), rtol=1e-9, atol=1e-12)
    fused = (share[:, :, None] * outputs).sum(axis=1)
    np.testing.assert_allclose(loss.loss(loss.points(fused, labels), labels), value.detach(), rtol=1e-12)


def test_pinball_loss_is_scikit_learns() -> None:
    loss = Pinball((0.1, 0.5, 0.8))
    outputs, labels, _ = _example(loss)
    ours = loss.loss(outputs[:, 0], labels).mean()
    theirs = [mean_pinball_loss(labels, outputs[:, 0, q], alpha=tau) for q, tau in enumerate(loss.taus)]
    assert ours == pytest.approx(np.mean(theirs), rel=1e-12)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_geometric_regret_is_the_gradient_in_softmax_logits(tau: float) -> None:
    """``dL/dtheta_i = -w_i r_i`` with weights the softmax of theta."""
    outputs, labels, raw = _example(LogLoss())
    theta = torch.tensor(raw, requires_grad=True)
    w = theta.softmax(1)
    logits = tau * (w[:, :, None] * torch.tensor(outputs).clamp(min=geometric.SMALLEST_SHARE / 3).log()).sum(
        1
    )
    q = logits.softmax(1)
    (gradient,) = torch.autograd.grad(
        torch.nn.functional.nll_loss(q.log(), torch.tensor(labels), reduction="sum"), theta
    )
    weights = w.detach().numpy()
    awake = np.ones((20, 5), np.bool_)
    logs = geometric.logs_of(outputs)
    pooled = geometric.pool(logs, tau * weights[:, None])
    np.testing.assert_allclose(pooled[0].T, q.detach(), rtol=1e-12)
    r = geometric.regrets(logs, pooled, weights[:, None], np.array([tau]), awake, labels)
    np.testing.assert_allclose(-weights * r[:, 0], gradient.numpy(), rtol=1e-9, atol=1e-12)


def _log_regrets(truth: list[float], weights: list[float]) -> list[float]:
    outputs = np.array([[[p, 1 - p] for p in truth]])
    r = regrets(
        LogLoss(),
        LogLoss().points(outputs, np.array([0])),
        np.array([[weights]]),
        np.ones((1, len(truth)), np.bool_),
        np.array([0]),
    )
    return [float(x) for x in r[0, 0]]


def test_log_regret_is_the_ratio_to_the_mixture_less_one() -> None:
    assert _log_regrets([0.8, 0.2], [0.5, 0.5]) == pytest.approx([0.6, -0.6])


def test_a_surprise_counts_as_ten_at_most() -> None:
    assert _log_regrets([1.0, 0.0], [0.01, 0.99]) == pytest.approx([10.0, -1.0])


def test_nothing_is_learned_where_the_mixture_gave_the_truth_no_chance() -> None:
    assert _log_regrets([1.0, 0.0], [1e-13, 1.0 - 1e-13]) == [0.0, 0.0]
    assert _log_regrets([0.0, 0.0], [0.5, 0.5]) == [0.0, 0.0]


def test_a_difference_within_rounding_is_no_difference() -> None:
    assert _log_regrets([0.3, 0.3 * (1 + 1e-14)], [0.5, 0.5]) == [0.0, 0.0]
    assert _log_regrets([0.3, 0.3 * (1 + 1e-9)], [0.5, 0.5])[1] > 0


def test_values_of_any_size_give_finite_regrets() -> None:
    for loss in (Square(), Absolute(), Pinball((0.5,))):
        outputs = np.array([[[1.7e308], [-1.7e308], [1e-308]]])
        labels = np.array([-1.7e308])
        third = np.full((1, 1, 3), 1 / 3)
        r = regrets(loss, loss.points(outputs, labels), third, np.ones((1, 3), np.bool_), labels)
        assert np.isfinite(r * r).all()
        assert r[0, 0, 1] > 0 > r[0, 0, 0]
