"""What goes wrong in a backtest: late and missing labels, sleeping members, drift. Seeded, so repeatable."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.backtest.recording import Recording
from stream_ensemble.core.learning.backtest import Stream
from stream_ensemble.core.learning.losses import Floats, Labels, Loss
from stream_ensemble.core.learning.schedule import delayed, in_bursts, some_never
from stream_ensemble.errors import SettingsError

_LATEST = 10**12
#: Tell the random numbers of one purpose from those of another.
_LABELS, _DELAYS = 1, 2


@dataclass(frozen=True, slots=True)
class Delay:
    """How late labels come: ``kind`` fixed, geometric or bursts, and its number of requests."""

    kind: str
    requests: int

    @property
    def on_their_way(self) -> float:
        """Labels missing when a request is answered, itself counted, in the mean."""
        return 1.0 + (self.requests / 2 if self.kind == "bursts" else self.requests)

    def arrivals(self, rows: int, seed: int) -> NDArray[np.int64]:
        """The request before which each of T labels is learned."""
        if self.kind == "bursts":
            return in_bursts(rows, self.requests)
        if self.kind == "geometric":
            rng = np.random.default_rng([seed, _DELAYS])
            return delayed(rows, rng.geometric(1.0 / (self.requests + 1), rows).astype(np.int64) - 1)
        return delayed(rows, self.requests)


def delay(text: str) -> Delay:
    """``100``, ``geometric:100`` (the mean) or ``bursts:5000``.

    Raises:
        SettingsError: it is none of them.
    """
    kind, _, number = text.rpartition(":")
    least = 1 if kind == "bursts" else 0
    known = kind in ("geometric", "bursts") or text == number
    if known and number.isdecimal() and least <= int(number) <= _LATEST:
        return Delay(kind or "fixed", int(number))
    raise SettingsError(
        f"--delay {text}: expected a whole number of requests, geometric:MEAN or bursts:SIZE, as 100, "
        "geometric:100 or bursts:5000"
    )


def member_losses(loss: Loss, outputs: Floats, awake: NDArray[np.bool_], labels: Labels) -> Floats:
    """Every member's own losses, T x K; NaN where asleep."""
    own = [loss.loss(loss.points(outputs[:, k], labels), labels) for k in range(outputs.shape[1])]
    return np.where(awake, np.stack(own, axis=1), np.nan)


def drifted(recording: Recording, loss: Loss) -> Recording:
    """From the middle on, the members' places swapped: the best's with the worst's, and so on inwards."""
    own = member_losses(loss, recording.outputs, recording.awake, recording.labels)
    seen = recording.awake.sum(axis=0)
    means = np.where(seen > 0, np.nansum(own, axis=0) / np.maximum(seen, 1), np.inf)
    ranked = np.argsort(means, kind="stable")
    swapped = np.empty(len(ranked), np.intp)
    swapped[ranked] = ranked[::-1]
    outputs, awake = recording.outputs.copy(), recording.awake.copy()
    half = len(outputs) // 2
    outputs[half:] = outputs[half:, swapped]
    awake[half:] = awake[half:, swapped]
    return replace(recording, outputs=outputs, awake=awake)


def missing(recording: Recording, share: float, seed: int) -> Recording:
    """With this share of the answers missing, drawn anew for every member and request.

    Where nobody would be awake, the first member that had answered is.
    """
    given = recording.awake
    awake = given & (np.random.default_rng(seed).random(given.shape) > share)
    nobody = ~awake.any(axis=1) & given.any(axis=1)
    awake[nobody, given[nobody].argmax(axis=1)] = True
    return replace(recording, outputs=np.where(awake[..., None], recording.outputs, 0.0), awake=awake)


def scheduled(recording: Recording, late: Delay, label_rate: float, seed: int) -> Stream:
    """The stream, with labels that come late or never; one that nobody answered teaches nothing."""
    rows = len(recording.labels)
    arrival = late.arrivals(rows, seed)
    comes = np.asarray(recording.awake.any(axis=1))
    if label_rate < 1:
        comes &= np.random.default_rng([seed, _LABELS]).random(rows) < label_rate
    return Stream(recording.outputs, recording.awake, recording.labels, some_never(arrival, comes))
