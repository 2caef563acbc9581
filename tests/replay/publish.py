"""One publisher of a replay as a process of its own, row by row through the SDK:

``python -m tests.replay.publish ROLE STREAM.npz --config FILE --began S --rate R --delay D``, where ROLE is
``requests``, ``labels`` or a member's name. Its last line of output says how it went, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_ensemble import FeedbackPublisher, PredictionPublisher, RequestPublisher
from stream_ensemble.config import Settings
from stream_ensemble.settings_file import load
from tests.replay.schedule import labels

_TICK_S = 0.01


class Pace(NamedTuple):
    """Request t is made ``t / rate`` seconds after ``began`` (wall clock, s)."""

    began: float
    rate: float

    def at_ms(self, row: int) -> int:
        """When a request is made."""
        return int((self.began + row / self.rate) * 1000)

    def rows_due(self) -> float:
        """How many rows the time has come for."""
        return (time.time() - self.began) * self.rate


class Due(NamedTuple):
    """Something to publish when request ``row`` is made."""

    row: int
    publish: Callable[[], Coroutine[Any, Any, None]]


def request_id(row: int) -> str:
    """Of row ``row``."""
    return f"row-{row:06d}"


def row_of(name: str) -> int:
    """The row a request id speaks of."""
    return int(name.removeprefix("row-"))


async def publish(dues: Iterator[Due], pace: Pace) -> dict[str, float]:
    """Publish each in its time; returns how many they were, and the longest that one was behind (s)."""
    sent, behind = 0, 0.0
    upcoming = next(dues, None)
    while upcoming is not None:
        now, ready = pace.rows_due(), []
        while upcoming is not None and upcoming.row <= now:
            behind = max(behind, (now - upcoming.row) / pace.rate)
            ready.append(upcoming.publish())
            upcoming = next(dues, None)
        await asyncio.gather(*ready)
        sent += len(ready)
        await asyncio.sleep(_TICK_S)
    return {"sent": sent, "behind_s": round(behind, 3)}


def of_role(
    role: str, settings: Settings, stream: Path, pace: Pace, delay: int
) -> tuple[AbstractAsyncContextManager[Any], Iterator[Due]]:
    """The publisher, and all that it publishes."""
    (ensemble,) = settings.ensembles
    with np.load(stream) as arrays:
        if role == "requests":
            requests = RequestPublisher(settings, ensemble)
            return requests, _requests(requests, len(arrays["y"]), pace)
        if role == "labels":
            feedback = FeedbackPublisher(settings, ensemble)
            classes = len(settings.ensembles[ensemble].task.classes)
            wanted = labels(arrays["y"], classes, delay)
            return feedback, (Due(each.due, partial(_label, feedback, each)) for each in wanted)
        outputs = arrays["P"][:, arrays["names"].tolist().index(role)].copy()
    predictions = PredictionPublisher(settings, ensemble, role)
    return predictions, _predictions(predictions, outputs, pace)


def _requests(publisher: RequestPublisher, rows: int, pace: Pace) -> Iterator[Due]:
    for row in range(rows):
        yield Due(row, partial(publisher.publish, request_id(row), at=pace.at_ms(row)))


def _predictions(publisher: PredictionPublisher, outputs: np.ndarray, pace: Pace) -> Iterator[Due]:
    for row, output in enumerate(outputs):
        if not np.isnan(output).any():
            yield Due(row, partial(publisher.publish, request_id(row), output, at=pace.at_ms(row)))


async def _label(publisher: FeedbackPublisher, one: Any) -> None:
    await publisher.publish(request_id(one.row), one.label, revision=one.revision)


async def _run(args: argparse.Namespace) -> dict[str, float]:
    pace = Pace(args.began, args.rate)
    publisher, dues = of_role(args.role, load(args.config), args.stream, pace, args.delay)
    async with publisher:
        return await publish(dues, pace)


def main() -> int:
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role")
    parser.add_argument("stream", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--delay", type=int, required=True)
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
