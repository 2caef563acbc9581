"""The demo's stream is made of rows no model was trained on, and is the same for the same seed."""

from __future__ import annotations

import numpy as np

from stream_ensemble.demo import dataset
from stream_ensemble.demo.scenario import Plan, number_of, request_id


def test_no_row_is_in_two_parts() -> None:
    parts = dataset.digits()
    rows = [set(part.rows.tolist()) for part in (parts.train, parts.validation, parts.held_out)]
    assert not rows[0] & rows[1] and not rows[0] & rows[2] and not rows[1] & rows[2]
    assert len(rows[0] | rows[1] | rows[2]) == 1797


def test_the_stream_asks_held_out_rows_only() -> None:
    asked = dataset.stream(500, seed=3)
    assert set(asked.rows.tolist()) <= set(dataset.digits().held_out.rows.tolist())
    assert asked.images.shape == (500, 64)
    assert asked.images.min() >= 0 and asked.images.max() <= 16


def test_the_stream_is_that_of_its_seed() -> None:
    first, again, other = dataset.stream(50, 1), dataset.stream(50, 1), dataset.stream(50, 2)
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()


def test_the_same_row_is_perturbed_afresh() -> None:
    image = dataset.digits().held_out.images[:1].repeat(2, axis=0)
    noisy = dataset.perturbed(image, np.random.default_rng(0))
    assert (noisy[0] != noisy[1]).any()


def test_a_corrupted_image_is_another_one() -> None:
    images = dataset.digits().held_out.images[:5]
    assert (dataset.corrupted(images) != images).any(axis=1).all()
    assert dataset.corrupted(images[:0]).shape == (0, 64)


def test_a_request_id_names_its_number() -> None:
    assert number_of(request_id(4, 1234)) == 1234


def test_events_are_at_their_share_of_the_stream() -> None:
    assert Plan(requests=1000).number_at(0.5) == 500
