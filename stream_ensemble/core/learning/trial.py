"""The record of members in shadow: would the answer have been better with some of them in it?

A label of a request with fused mixture m (the learner's own, at the credit it was fused with) and shadow
output s scores ``d = loss(m) - loss((1 - a) m + a s)``: what the answer would have gained from s at the share
a, the very share at which an admitted member begins. So a shadow may be worse than the others alone and still
earn its place by being right where they are not.

Admission is a test by betting. Against "s never betters the answer", E[d | what came before] <= 0, bet a
fraction f of the fortune each time: ``W = prod (1 + f d / b)`` with ``b = -log(1 - a)``, for under log loss d
is never below -b. Other losses have no such bound: there the bet is on d divided by the larger of the two
losses, and the hypothesis is that this is never above 0 in the mean. Under it W is a nonnegative
supermartingale that begins at 1, and so is the mean over several f; by Ville's inequality the chance that it
ever reaches ``1 / error`` is at most ``error``, however often one looks. ``log W`` is a sum over labels:
order, delay, learners and corrections do not matter. The bound is for labels of weight 1 whose coming does
not depend on what they say.

References:
    Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1), for
    the test; Ville (1939) for the inequality.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stream_ensemble.core.learning.additive import Additive, Floats, Increments, Mixing
from stream_ensemble.core.learning.algorithm import Labelled, Trials
from stream_ensemble.core.learning.beside import Beside
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.losses import LogLoss, loss_of
from stream_ensemble.core.learning.membership import WARM_LABELS

#: Begins the names of all arrays here.
TRIAL = "trial"
#: Fractions of the largest bet that can never lose all.
FRACTIONS = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 7 / 8)


class WithTrials(Beside[Mixing]):
    """An algorithm that keeps the records of shadows beside its sums, and counts labels of warm starts.

    The share stands in the names of a record's arrays: one at another share says something else.

    Args:
        share: of the answer, at which shadows are scored.
    """

    def __init__(self, inner: Additive[Mixing], share: float) -> None:
        super().__init__(inner, {})
        self._share = share

    def taught(self, mixing: Mixing, labelled: Labelled) -> Increments:
        """See ``Additive``; the inner algorithm's own where no shadow answered and nobody is warm."""
        if labelled.trials is None and labelled.warm is None:
            return self.inner.taught(mixing, labelled)
        return super().taught(mixing, labelled)

    def added(self, own: Increments, mixing: Mixing, labelled: Labelled) -> Mapping[str, Floats]:
        """See ``Beside``; where nobody of the mixture answered there is nothing to compare with."""
        found: dict[str, Floats] = {}
        if labelled.warm is not None:
            found[WARM_LABELS] = (labelled.warm & labelled.awake).astype(np.float64)
        if labelled.trials is not None:
            found |= self._scores(mixing, labelled, labelled.trials)
        return found

    def _scores(self, mixing: Mixing, labelled: Labelled, trials: Trials) -> Mapping[str, Floats]:
        labels, share = labelled.labels, self._share
        # Shadows may be more than the K members: those the request's credit does not know.
        fused = self.inner.mix(mixing, labelled.outputs, labelled.awake)
        present = trials.present & labelled.awake.any(axis=1, keepdims=True)
        mixture = loss_of(self.loss, fused, labels)[:, None]
        own, with_it = (np.zeros(present.shape) for _ in range(2))
        for k in np.flatnonzero(present.any(axis=0)).tolist():
            shadow = trials.outputs[:, k]
            own[:, k] = loss_of(self.loss, shadow, labels)
            with_it[:, k] = loss_of(self.loss, (1 - share) * fused + share * shadow, labels)
        gain = (mixture - with_it) * present
        stakes = self._stakes(gain, np.maximum(mixture, with_it))
        name = _named(share)
        found = {
            f"{name}/n": present.astype(np.float64),
            f"{name}/own": own * present,
            f"{name}/mixture": mixture * present,
            f"{name}/gain": gain,
        }
        return found | {f"{name}/bet{i}": np.log1p(f * stakes) for i, f in enumerate(FRACTIONS)}

    def _stakes(self, gain: Floats, larger: Floats) -> Floats:
        """Gains as what a bet of everything wins or loses, never below -1.

        Args:
            larger: of the two losses that the gain lies between.
        """
        if isinstance(self.loss, LogLoss):
            # Rounding alone takes it below what no output can cost.
            return np.maximum(gain / -math.log1p(-self._share), -1.0)
        return gain / np.where(larger > 0, larger, 1.0)


def apart(taught: Increments) -> tuple[Increments, Increments]:
    """What a label teaches of the members, and what of shadows."""
    own, trials = (
        {k: v for k, v in taught.sums.items() if k.startswith(TRIAL) == of} for of in (False, True)
    )
    return Increments(own, taught.maxima), Increments(trials, {})


class Record(NamedTuple):
    """The record of one shadow.

    Attributes:
        labels: of requests that it and somebody of the mixture answered.
        own: its mean loss alone.
        mixture: the mean loss of what was learned, of the same requests.
        gain: how much lower that would have been with its share in it, in the mean.
        evidence: the fortune W of the test; ``1 / error`` admits it.
    """

    labels: float
    own: float
    mixture: float
    gain: float
    evidence: float


def record_of(whole: Contribution, member: str, share: float) -> Record | None:
    """What stands in a contribution of one member at this share; None where no label was scored."""
    name = _named(share)
    counted = whole.sums.get(f"{name}/n")
    if counted is None or member not in whole.members:
        return None
    k = whole.members.index(member)
    labels = float(counted[k])
    if labels <= 0:
        return None
    own, mixture, gain = (float(whole.sums[f"{name}/{of}"][k]) / labels for of in ("own", "mixture", "gain"))
    bets = [float(whole.sums[f"{name}/bet{i}"][k]) for i in range(len(FRACTIONS))]
    # No infinity: it has no form in JSON.
    evidence = sum(math.exp(min(bet, 700.0)) for bet in bets) / len(bets)
    return Record(labels, own, mixture, gain, evidence)


def earned(record: Record | None, least_labels: float, error: float) -> bool:
    """Does the record admit its member?"""
    return record is not None and record.labels >= least_labels and record.evidence >= 1.0 / error


def _named(share: float) -> str:
    return f"{TRIAL}@{share:g}"
