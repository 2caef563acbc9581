"""Who is awaited and weighted, and what a member just admitted has on top of what it has earned.

The settings say who is a member and who is in shadow; a control record about one of them comes before that.
A warm start is no part of what is learned: as beneath a pin, the algorithm learns of its own mixture m, and
what is issued is ``(1 - sum a_k) m + sum a_k x_k`` over the awake members k with a share ``a_k``. So the
others keep their ratios, the share is exactly the one stated, and it adds at most ``a_k`` of a member's
regret to a label. It falls in a straight line to nothing over the labels that the member was charged with a
share for: a sum by member name, hence the same whatever the order of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.messages import Admission, ControlState

#: A sum over members: labels they were charged with a warm share for.
WARM_LABELS = "warm/labels"
#: All shares together stay below this: what was learned is never silenced.
MOST_WARM = 0.9

Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]


class Membership(NamedTuple):
    """Of K members and shadows, who is awaited (a bit mask), and the warm shares (K; empty: all are 0)."""

    awaited: int
    shares: tuple[float, ...] = ()

    def warm(self, members: Sequence[str], awake: int) -> dict[str, float] | None:
        """The shares of those awake, by name; None where nobody has one."""
        pairs = zip(members, self.shares, strict=False)
        found = {name: share for k, (name, share) in enumerate(pairs) if share > 0 and awake >> k & 1}
        return found or None


def admissions(state: ControlState) -> Mapping[str, Admission]:
    """What control records say of members, by name."""
    return {admission.member: admission for admission in state.members}


def awaited_by(state: ControlState, members: Sequence[str], shadows: Sequence[str]) -> list[str]:
    """Who is awaited, in the order of the settings. Never nobody: then the settings alone count."""
    said = admissions(state)
    found = [
        name for name in (*members, *shadows) if (said[name].admitted if name in said else name in members)
    ]
    return found or list(members)


def membership(
    state: ControlState,
    members: Sequence[str],
    shadows: Sequence[str],
    generation: int,
    counted: Floats | None,
) -> Membership:
    """Who is awaited, and with what warm share.

    Args:
        generation: of what is learned; a warm start is of one generation.
        counted: ``WARM_LABELS`` over members and shadows; None: no label was counted yet.
    """
    everyone = (*members, *shadows)
    awaited = set(awaited_by(state, members, shadows))
    said = admissions(state)
    shares = [0.0] * len(everyone)
    for k, name in enumerate(everyone):
        admission = said.get(name)
        if admission is None or name not in awaited or not admission.labels:
            continue
        if admission.generation == generation:
            labels = 0.0 if counted is None else float(counted[k])
            shares[k] = admission.share * min(1.0, max(0.0, 1.0 - labels / admission.labels))
    total = sum(shares)
    if total > MOST_WARM:
        shares = [share * MOST_WARM / total for share in shares]
    mask = sum(1 << k for k, name in enumerate(everyone) if name in awaited)
    return Membership(mask, tuple(shares) if total > 0 else ())


class WarmStart:
    """What is issued of a mixture when some members have a warm share.

    Args:
        shares: K.
        pool, fuse: the mixture's own, as of ``Algorithm`` at its credit.
    """

    def __init__(
        self,
        shares: Sequence[float],
        pool: Callable[[_Bools], Floats],
        fuse: Callable[[Floats, _Bools], Floats],
    ) -> None:
        self._shares = np.array(shares, np.float64)
        self._pool = pool
        self._fuse = fuse

    def pool(self, awake: _Bools) -> Floats:
        """Weights over the awake, R x K, that sum to 1. Shape: awake R x K."""
        own = awake * self._shares
        weights: Floats = (1.0 - own.sum(axis=1, keepdims=True)) * self._pool(awake) + own
        return weights

    def fuse(self, outputs: Floats, awake: _Bools) -> Floats:
        """The fused outputs, R x C. Shapes: outputs R x K x C, awake R x K."""
        own = awake * self._shares
        fused: Floats = (1.0 - own.sum(axis=1, keepdims=True)) * self._fuse(outputs, awake)
        for k in np.flatnonzero(self._shares).tolist():
            fused = fused + own[:, k, None] * outputs[:, k]
        return fused
