"""Small recorded streams in files, for the tests of the backtest command."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ROWS, MEMBERS = 60, ("a", "b", "c")


def classes(seed: int = 0) -> dict[str, np.ndarray]:
    """Three members, three classes; member a is the best."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, ROWS)
    P = rng.dirichlet(np.ones(3), (ROWS, 3)) + np.eye(3)[y][:, None] * np.array([1.0, 0.5, 0.0])[:, None]
    return {"P": P / P.sum(axis=2, keepdims=True), "y": y, "names": np.array(MEMBERS)}


def values(seed: int = 0) -> dict[str, np.ndarray]:
    """Three members' estimates of a number."""
    rng = np.random.default_rng(seed)
    y = rng.normal(50, 10, ROWS)
    return {"P": y[:, None] + rng.normal(0, 1, (ROWS, 3)) * [1, 2, 4], "y": y, "names": np.array(MEMBERS)}


def written(folder: Path, arrays: dict[str, np.ndarray], name: str = "stream.npz") -> str:
    path = folder / name
    np.savez(path, **arrays)
    return str(path)
