"""What happens to a recorded stream: its best two members change places halfway, another one is silent for
a third of the time, labels come late, some of them twice and some wrong at first.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.backtest.conditions import member_losses
from stream_ensemble.cli.backtest.files import read
from stream_ensemble.cli.backtest.recording import checked
from stream_ensemble.errors import SettingsError

DELAY = 1000
#: Of the labels, so many come twice, and so many wrong at first.
_TWICE, _WRONG = 0.02, 0.01
#: Requests from a wrong label to the right one.
CORRECTED_AFTER = 100
_LABELS = 7


class Schedule(NamedTuple):
    """The stream as it is replayed.

    Attributes:
        outputs: T x K x C, NaN where a member is silent.
        labels: T class numbers.
        members: K names.
        swapped: the two that change places at row ``T // 2``.
        silent: who says nothing, and from which row to which.
    """

    outputs: NDArray[np.float64]
    labels: NDArray[np.int64]
    members: tuple[str, ...]
    swapped: tuple[str, str]
    silent: tuple[str, int, int]

    @property
    def rows(self) -> int:
        """T."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """C."""
        return self.outputs.shape[2]

    def save(self, file: Path) -> None:
        """As ``stream-ensemble backtest`` reads it."""
        np.savez(file, P=self.outputs, y=self.labels, names=np.array(self.members))


def scheduled(file: Path) -> Schedule:
    """What becomes of the recorded class probabilities in ``file``.

    Raises:
        SettingsError: it holds something else, or fewer than three members.
    """
    raw = read(file)
    try:
        recording, loss = checked(raw, "log", None)
    except SettingsError as error:
        raise SettingsError(f"{file}: {error}") from None
    if len(recording.members) < 3:
        raise SettingsError(f"{file}: {len(recording.members)} members; a replay needs at least 3")
    own = member_losses(loss, recording.outputs, recording.awake, recording.labels)
    best, second, third = np.argsort(np.nanmean(own, axis=0), kind="stable")[:3].tolist()
    outputs = np.where(recording.awake[..., None], recording.outputs, np.nan)
    rows = len(outputs)
    outputs[rows // 2 :, [best, second]] = outputs[rows // 2 :, [second, best]]
    outputs[rows // 3 : 2 * rows // 3, third] = np.nan
    names = recording.members
    return Schedule(
        outputs,
        recording.labels.astype(np.int64),
        names,
        (names[best], names[second]),
        (names[third], rows // 3, 2 * rows // 3),
    )


class Label(NamedTuple):
    """One label to be published when request ``due`` is, or would be."""

    due: int
    row: int
    label: int
    revision: int = 0


def labels(truth: NDArray[np.int64], classes: int, delay: int) -> Iterator[Label]:
    """All labels in the order in which they are due."""
    twice, wrong = twice_and_wrong(len(truth))
    for due in range(delay, delay + len(truth) + CORRECTED_AFTER):
        row = due - delay
        if row < len(truth):
            said = int(truth[row])
            yield Label(due, row, (said + 1) % classes if row in wrong else said)
            if row in twice:
                yield Label(due, row, said)
        row -= CORRECTED_AFTER
        if row in wrong:
            yield Label(due, row, int(truth[row]), revision=1)


def twice_and_wrong(rows: int) -> tuple[frozenset[int], frozenset[int]]:
    """Whose labels come twice, and whose are wrong at first; nobody's are both."""
    drawn = np.random.default_rng(_LABELS).permutation(rows)
    twice, wrong = round(rows * _TWICE), round(rows * _WRONG)
    return frozenset(drawn[:twice].tolist()), frozenset(drawn[twice : twice + wrong].tolist())
