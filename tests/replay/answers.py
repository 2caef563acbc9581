"""The fused topic of a replay, read once from its beginning."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.learning.backtest import Stream, play
from stream_ensemble.core.learning.choose import Options, named
from stream_ensemble.core.learning.losses import LogLoss
from tests.chaos.topic_log import TopicLog
from tests.replay.publish import row_of
from tests.replay.schedule import Schedule


class _Version(msgspec.Struct):
    n: int


class _Fused(msgspec.Struct):
    request_id: str
    status: str
    weights_version: _Version
    output: list[float] | None = None
    cause: str | None = None


_decode = msgspec.json.Decoder(_Fused).decode


class Answers(NamedTuple):
    """What the fused topic says.

    Attributes:
        outputs: T x C, NaN where a request has no answer.
        learned: T, how many labels the weights had learned that each request was fused with.
        times: T, how often each was answered.
        statuses: how many ended in which way, with the cause where there is one.
    """

    outputs: NDArray[np.float64]
    learned: NDArray[np.int64]
    times: NDArray[np.int64]
    statuses: Counter[str]

    def losses(self, labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """T log losses of the fused outputs, as the backtest counts them."""
        loss = LogLoss()
        return loss.loss(loss.points(self.outputs, labels), labels)


async def answers(bootstrap: str, topic: str, schedule: Schedule, folder: Path) -> Answers:
    """All there are."""
    log = TopicLog([bootstrap], [topic], topic, folder)
    await log.start()
    try:
        await log.catch_up()
    finally:
        await log.stop()
    rows = schedule.rows
    outputs = np.full((rows, schedule.classes), np.nan)
    learned, times = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    statuses: Counter[str] = Counter()
    for record in log.records[topic]:
        fused = _decode(record.value or b"")
        row = row_of(fused.request_id)
        times[row] += 1
        learned[row] = fused.weights_version.n
        statuses[f"{fused.status} ({fused.cause})" if fused.cause else fused.status] += 1
        if fused.output is not None:
            outputs[row] = fused.output
    return Answers(outputs, learned, times, statuses)


def as_late(schedule: Schedule, learned: NDArray[np.int64]) -> float:
    """The backtest's mean loss with labels as late as they were in use, in the order of their requests.

    Args:
        learned: T, as in :class:`Answers`.
    """
    seen = np.maximum.accumulate(learned)
    rows = np.arange(schedule.rows)
    arrival = np.maximum(np.searchsorted(seen, rows, side="right"), rows + 1)
    awake = ~np.isnan(schedule.outputs).any(axis=2)
    outputs = np.where(awake[..., None], schedule.outputs, 0.0)
    loss = LogLoss()
    algorithm = named("bank", schedule.members, loss, Options())
    return float(play(Stream(outputs, awake, schedule.labels, arrival), algorithm, loss).losses.mean())
