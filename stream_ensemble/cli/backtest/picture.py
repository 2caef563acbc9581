"""Loss and weights over time, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from stream_ensemble.cli.backtest.figures import Figures
from stream_ensemble.errors import SettingsError

mpl.use("Agg")
from matplotlib import pyplot as plt

#: Members in the picture; the others, the lightest, are one area.
_MOST_NAMED = 9


def draw(path: Path, figures: Figures, title: str) -> None:
    """Two charts, one above the other: mean loss and mean weights over the parts of the stream.

    Raises:
        SettingsError: the file cannot be written, or its suffix names no kind of picture.
    """
    # The last part reaches to the end.
    spans = [*figures.spans, figures.spans[-1]]
    starts = [span["first"] for span in figures.spans] + [figures.requests]
    figure, (losses, weights) = plt.subplots(2, 1, sharex=True, figsize=(9, 7), layout="constrained")
    losses.set_title(title)
    losses.step(starts, [span["loss"] for span in spans], where="post", label="learned")
    losses.step(starts, [span["uniform"] for span in spans], where="post", label="uniform")
    losses.axhline(figures.best_convex, ls=":", c="grey", label="best fixed weights in hindsight")
    losses.set_ylabel("mean loss")
    losses.legend()
    shares = np.array([list(span["weights"].values()) for span in spans]).T
    names = np.array(list(figures.weights))
    heaviest = np.argsort(-shares.mean(axis=1), kind="stable")
    named, others = heaviest[:_MOST_NAMED], heaviest[_MOST_NAMED:]
    areas, labels = list(shares[named]), names[named].tolist()
    if len(others):
        areas, labels = [*areas, shares[others].sum(axis=0)], [*labels, f"{len(others)} others"]
    weights.stackplot(starts, areas, labels=labels, step="post")
    weights.set_ylabel("weight")
    weights.set_xlabel("request")
    weights.set_ylim(0, 1)
    weights.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--plot {path}: {error}") from None
    finally:
        plt.close(figure)
