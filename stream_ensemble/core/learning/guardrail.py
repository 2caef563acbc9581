"""Is what was learned worse than nothing learned? Judged by the labels, for the guardrail to act on.

Both losses of a label are those of the mixtures as they would have been issued when its request was fused:
that of the learned weights by the credit, whatever was issued instead, and the plain mean of the same
outputs. Their discounted sums are additive, hence independent of order, delay and the number of learners.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.beside import Beside
from stream_ensemble.core.learning.contribution import PER_ARM, Contribution
from stream_ensemble.core.learning.losses import loss_of

#: Sums of: the loss of the learned mixture, that of the uniform one, and the labels' weights.
_LOSSES = PER_ARM + "guardrail"


class WithLosses(Beside[Mixing]):
    """An algorithm that keeps the losses of its own mixture and of the uniform one beside its sums.

    Args:
        half_life: labels until an old one counts half.
    """

    def __init__(self, inner: Additive[Mixing], half_life: float) -> None:
        super().__init__(inner, {_LOSSES: half_life})

    def added(self, own: Increments, mixing: Mixing, labelled: Labelled) -> Mapping[str, Floats]:
        """See ``Beside``; a request that nobody answered adds nothing."""
        outputs, awake, labels = labelled.outputs, labelled.awake, labelled.labels
        count = awake.sum(axis=1)
        mixtures = (
            self.inner.mix(mixing, outputs, awake),
            (outputs * awake[..., None]).sum(axis=1) / np.maximum(count, 1)[:, None],
        )
        losses = [loss_of(self.loss, mixture, labels) for mixture in mixtures]
        rows = np.stack([*losses, np.ones(len(labels))], axis=1)
        return {_LOSSES: rows * (count > 0)[:, None]}


class Judged(NamedTuple):
    """Mean loss of the learned and of the uniform mixture, and over how many labels, old ones discounted."""

    learned: float
    uniform: float
    labels: float


def judged(whole: Contribution) -> Judged | None:
    """What stands in a contribution; None where there is no label yet."""
    learned, uniform, labels = whole.sums.get(_LOSSES, np.zeros(3)).tolist()
    return Judged(learned / labels, uniform / labels, labels) if labels > 0 else None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When to switch.

    Attributes:
        least_labels: without so many nothing is switched.
        worse_by: uniform weights are taken when the learned mixture's loss is larger by more than this share.
        back_at: the learned ones are taken again when it is larger by at most this share; not above
            ``worse_by``, so that between the two all stays as it is.
    """

    least_labels: float
    worse_by: float
    back_at: float

    def on(self, now: bool, found: Judged | None) -> bool:
        """Should uniform weights be used, where ``now`` says whether they are?"""
        if found is None or found.labels < self.least_labels:
            return now
        share = self.back_at if now else self.worse_by
        # A share of |loss|, for a loss may be negative.
        return found.learned - found.uniform > share * abs(found.uniform)
