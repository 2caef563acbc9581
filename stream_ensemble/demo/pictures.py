"""Two pictures of a run: the weights over time, and the rolling loss of everyone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.demo.report import uniform
from stream_ensemble.demo.scenario import FAULT_AT, FAULTY, KILL_AT, KILLED, MEMBERS, RESTART_AT
from stream_ensemble.demo.tally import Tally

mpl.use("Agg")
from matplotlib import pyplot as plt

#: Okabe and Ito's colours, which people with any colour vision tell apart.
_COLOURS = dict(zip(MEMBERS, ("#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7"), strict=True))
_WINDOW = 150
_WORST_SHOWN = 2.5


def draw(tally: Tally, labels: NDArray[np.int64], folder: Path) -> list[Path]:
    """Write ``weights.png`` and ``loss.png``; returns their paths."""
    mpl.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    return [_weights(tally, folder / "weights.png"), _losses(tally, labels, folder / "loss.png")]


def _weights(tally: Tally, path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    x = np.arange(tally.plan.requests)
    for k, member in enumerate(MEMBERS):
        there = ~np.isnan(tally.weights[:, k])
        axes.plot(x[there], tally.weights[there, k], color=_COLOURS[member], label=member, linewidth=1.6)
    axes.set(
        xlabel="request",
        ylabel="weight in the fused answer",
        ylim=(-0.02, 1.08),
        xlim=(0, tally.plan.requests),
    )
    _events(axes, tally)
    _finish(figure, axes, "Weights learned from late labels", path)
    return path


def _losses(tally: Tally, labels: NDArray[np.int64], path: Path) -> Path:
    figure, axes = plt.subplots(figsize=(11, 5), layout="constrained")
    for k, member in enumerate(MEMBERS):
        _rolling(axes, tally.components[:, k], labels, color=_COLOURS[member], label=member, linewidth=1.2)
    _rolling(axes, uniform(tally.components), labels, color="#777777", label="uniform mean", linestyle="--")
    _rolling(axes, tally.fused, labels, color="black", label="fused", linewidth=2.6)
    axes.set(
        xlabel="request",
        ylabel=f"log loss, mean of {_WINDOW} requests",
        ylim=(0, _WORST_SHOWN),
        xlim=(0, tally.plan.requests),
    )
    _events(axes, tally)
    _finish(figure, axes, "Rolling log loss: lower is better", path)
    return path


def _rolling(axes: Any, output: NDArray[np.float64], labels: NDArray[np.int64], **style: Any) -> None:
    truth = output[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(truth, 1e-15))
    there = ~np.isnan(loss)
    total = np.cumsum(np.where(there, loss, 0.0))
    count = np.cumsum(there)
    total[_WINDOW:] -= total[:-_WINDOW].copy()
    count[_WINDOW:] -= count[:-_WINDOW].copy()
    mean = np.where(count >= min(20, _WINDOW), total / np.maximum(count, 1), np.nan)
    axes.plot(np.arange(len(labels)), mean, **style)


def _events(axes: Any, tally: Tally) -> None:
    fault, kill, restart = (tally.plan.number_at(share) for share in (FAULT_AT, KILL_AT, RESTART_AT))
    top = axes.get_ylim()[1]
    axes.axvline(fault, color="#444444", linewidth=1.2)
    axes.text(fault, top, f" {FAULTY}'s input is corrupted", va="top", ha="left")
    axes.axvspan(kill, restart, color="#dddddd", zorder=0)
    axes.text(kill, top * 0.93, f" {KILLED} killed, started again", va="top", ha="left")


def _finish(figure: Any, axes: Any, title: str, path: Path) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
