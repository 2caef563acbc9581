"""The five models differ, answer with distributions, and the one that will be corrupted is the best."""

from __future__ import annotations

import numpy as np
import pytest

from stream_ensemble.core.evaluation.classification import log_loss
from stream_ensemble.demo import dataset, models
from stream_ensemble.demo.models import Model
from stream_ensemble.demo.scenario import FAULTY, KILLED, MEMBERS


@pytest.fixture(scope="module")
def trained() -> dict[str, Model]:
    train = dataset.digits().train
    return {member: models.train(member, train) for member in MEMBERS}


def test_every_model_answers_with_distributions(trained: dict[str, Model]) -> None:
    images = dataset.stream(200, 0).images
    for member, model in trained.items():
        p = model(images)
        assert p.shape == (200, 10), member
        assert p.min() > 0, member
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)


def test_the_faulty_member_is_the_best_on_validation_rows(trained: dict[str, Model]) -> None:
    validation = dataset.digits().validation
    images = dataset.perturbed(validation.images.repeat(4, axis=0), np.random.default_rng(5))
    labels = validation.labels.repeat(4)
    losses = {member: log_loss(model(images), labels) for member, model in trained.items()}
    assert min(losses, key=losses.__getitem__) == FAULTY
    assert FAULTY != KILLED


def test_the_models_err_on_different_requests(trained: dict[str, Model]) -> None:
    asked = dataset.stream(1000, 0)
    wrong = np.array([model(asked.images).argmax(axis=1) != asked.labels for model in trained.values()])
    shared = np.corrcoef(wrong)[np.triu_indices(len(MEMBERS), 1)]
    assert shared.max() < 0.7


def test_training_twice_gives_the_same_model() -> None:
    train, images = dataset.digits().train, dataset.stream(20, 0).images
    np.testing.assert_array_equal(
        models.train("forest", train)(images), models.train("forest", train)(images)
    )
