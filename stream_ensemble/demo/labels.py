"""The labelling system of the demo: ``python -m stream_ensemble.demo.labels``.

Sees each answer, learns the truth some seconds later, and writes it to the feedback topic. Some truths never
come.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import sys
import time

import numpy as np
from numpy.typing import NDArray

from stream_ensemble import FeedbackPublisher, FusedConsumer
from stream_ensemble.demo.dataset import stream
from stream_ensemble.demo.requests import plan_of
from stream_ensemble.demo.scenario import (
    LABEL_MEDIAN_S,
    LABEL_NEVER,
    LABEL_SIGMA,
    Plan,
    number_of,
    request_id,
)
from stream_ensemble.settings_file import load

_TICK_S = 0.02


def delays(plan: Plan) -> NDArray[np.float64]:
    """Seconds from answer to label for every request; infinity where the label never comes.

    Shape: requests.
    """
    rng = np.random.default_rng([plan.seed, 41])
    wait = rng.lognormal(np.log(LABEL_MEDIAN_S), LABEL_SIGMA, plan.requests)
    wait[rng.random(plan.requests) < LABEL_NEVER] = np.inf
    return wait


async def label(plan: Plan) -> None:
    """Label the answers of ``plan`` until cancelled."""
    settings = load()
    ensemble = next(iter(settings.ensembles))
    truth, wait = stream(plan.requests, plan.seed).labels, delays(plan)
    due: list[tuple[float, int]] = []

    async def watch(consumer: FusedConsumer) -> None:
        async for record in consumer:
            number = number_of(record.request_id)
            if np.isfinite(wait[number]):
                heapq.heappush(due, (time.monotonic() + wait[number], number))

    labels = FeedbackPublisher(settings, ensemble)
    async with labels, FusedConsumer(settings, ensemble, from_beginning=True) as consumer:
        watching = asyncio.create_task(watch(consumer))
        while not watching.done():
            ready = []
            while due and due[0][0] <= time.monotonic():
                ready.append(heapq.heappop(due)[1])
            await asyncio.gather(*(labels.publish(request_id(plan.seed, n), int(truth[n])) for n in ready))
            await asyncio.sleep(_TICK_S)
        await watching


def main() -> int:
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(label(plan_of(sys.argv[1:], "Publishes the labels of the demo, late.")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
