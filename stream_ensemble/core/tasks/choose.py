"""The domain of a task of the settings."""

from __future__ import annotations

from stream_ensemble.config import Task
from stream_ensemble.core.tasks.classification import Classes
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.core.tasks.forecast import Horizons
from stream_ensemble.core.tasks.multilabel import ManyLabels


def domain_of(task: Task) -> Domain:
    """What outputs and labels of this task may be."""
    if task.kind == "forecast":
        return Horizons(task.horizons, task.loss)
    if task.kind == "multilabel":
        return ManyLabels(task.classes)
    return Classes(task.classes, task.sum_tolerance)
