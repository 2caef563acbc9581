"""The handwritten digits of scikit-learn, split once; the stream is made of held-out rows alone.

Source: E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI; 1,797 images of 8 x 8,
inside scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

_SPLIT_SEED = 20_261
_TRAIN, _VALIDATION = 0.55, 0.12
#: Standard deviation of the noise on a pixel; pixels are 0 to 16.
_NOISE = 2.5
_SIDE = 8


@dataclass(frozen=True, slots=True)
class Part:
    """N images and their digits; ``rows`` says which rows of the data set they are. Shapes: N x 64, N, N."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Digits:
    """The three parts of the data set; no row is in two."""

    train: Part
    validation: Part
    held_out: Part


def digits() -> Digits:
    """The data set, split the same way every time."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    first, second = int(len(order) * _TRAIN), int(len(order) * (_TRAIN + _VALIDATION))
    parts = [
        Part(images[rows], labels[rows].astype(np.int64), rows) for rows in np.split(order, [first, second])
    ]
    return Digits(*parts)


def perturbed(images: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Every image with fresh noise on every pixel. Shape: N x 64."""
    noisy: NDArray[np.float64] = np.clip(images + rng.normal(0.0, _NOISE, images.shape), 0.0, 16.0)
    return noisy.round(1)


def stream(count: int, seed: int) -> Part:
    """The requests of a run: ``count`` held-out rows, drawn with replacement and freshly perturbed."""
    rng = np.random.default_rng([seed, count])
    held_out = digits().held_out
    picked = rng.integers(0, len(held_out.labels), size=count)
    return Part(perturbed(held_out.images[picked], rng), held_out.labels[picked], held_out.rows[picked])


def corrupted(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a broken camera hands to one member: the image upside down and inverted. Shape: N x 64."""
    flipped: NDArray[np.float64] = 16.0 - images.reshape(len(images), _SIDE, _SIDE)[:, ::-1].reshape(
        images.shape
    )
    return flipped
