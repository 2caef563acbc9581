"""Five really different models, each trained on a part of the training rows of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from stream_ensemble.demo.dataset import Part, perturbed
from stream_ensemble.demo.scenario import CLASSES, MEMBERS

_ROWS = 0.5
#: Share of the pixels that a member sees.
_PIXELS = 0.35
#: Perturbed copies of every training row, so that the models know noise.
_COPIES = 3
#: No class is ever ruled out: a share of every answer is spread over all classes.
_SMOOTHING = 0.05

Model = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def train(member: str, part: Part) -> Model:
    """Train ``member`` on its share of ``part``; the same every time.

    Returns:
        A function from N x 64 pixels to N x 10 probabilities, none of them zero.
    """
    number = MEMBERS.index(member)
    rng = np.random.default_rng([77, number])
    rows = rng.permutation(len(part.labels))[: int(len(part.labels) * _ROWS)]
    seen = np.zeros(part.images.shape[1])
    seen[rng.permutation(len(seen))[: int(len(seen) * _PIXELS)]] = 1.0 / 16.0
    images = np.concatenate([perturbed(part.images[rows], rng) for _ in range(_COPIES)])
    labels = np.tile(part.labels[rows], _COPIES)
    predict = _BUILD[member](images * seen, labels)

    def smoothed(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        p = predict(np.asarray(pixels, np.float64) * seen)
        p = (1.0 - _SMOOTHING) * p / p.sum(axis=1, keepdims=True) + _SMOOTHING / len(CLASSES)
        rounded = p.round(6)
        rounded[:, -1] += 1.0 - rounded.sum(axis=1)
        result: NDArray[np.float64] = rounded.round(6)
        return result

    return smoothed


def _fitted(estimator: Any, images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    estimator.fit(images, labels)
    predict: Model = estimator.predict_proba
    return predict


def _logistic(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    return _fitted(LogisticRegression(C=1.0, max_iter=300), images, labels)


def _forest(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    trees = ExtraTreesClassifier(60, random_state=0)
    return _fitted(CalibratedClassifierCV(trees, cv=2, ensemble=False), images, labels)


def _neighbours(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    return _fitted(KNeighborsClassifier(9, weights="distance"), images, labels)


def _kernel(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    return _fitted(CalibratedClassifierCV(SVC(C=4.0, gamma=0.5), cv=3, ensemble=False), images, labels)


def _network(images: NDArray[np.float64], labels: NDArray[np.int64]) -> Model:
    import torch  # takes seconds, and four of the five models do without

    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 8, 8)),
        torch.nn.Conv2d(1, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(128, len(CLASSES)),
    )
    x, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=1e-4)
    for _ in range(120):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    net.eval()

    def predict(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            p = torch.softmax(net(torch.tensor(pixels, dtype=torch.float32)), 1)
        result: NDArray[np.float64] = p.numpy().astype(np.float64)
        return result

    return predict


_BUILD: dict[str, Callable[[NDArray[np.float64], NDArray[np.int64]], Model]] = {
    "logistic": _logistic,
    "forest": _forest,
    "neighbours": _neighbours,
    "kernel": _kernel,
    "network": _network,
}
