"""Asks the demo's questions at a steady pace: ``python -m stream_ensemble.demo.requests``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time

from stream_ensemble import RequestPublisher
from stream_ensemble.demo.dataset import stream
from stream_ensemble.demo.scenario import REQUESTS, SECONDS, Plan, request_id
from stream_ensemble.settings_file import load

_TICK_S = 0.02


async def ask(plan: Plan) -> None:
    """Publish all requests of ``plan``, each with the time it is made at."""
    settings = load()
    images = stream(plan.requests, plan.seed).images
    async with RequestPublisher(settings, next(iter(settings.ensembles))) as publisher:
        began, asked = time.monotonic(), 0
        while asked < plan.requests:
            due = min(plan.requests, int((time.monotonic() - began) * plan.rate) + 1)
            now = int(time.time() * 1000)
            await asyncio.gather(
                *(
                    publisher.publish(request_id(plan.seed, n), {"pixels": images[n].tolist()}, at=now)
                    for n in range(asked, due)
                )
            )
            asked = due
            await asyncio.sleep(_TICK_S)


def main() -> int:
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(ask(plan_of(sys.argv[1:], "Publishes the requests of the demo.")))
    return 0


def plan_of(arguments: list[str], what: str) -> Plan:
    """The run that a command line names."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return Plan(options.requests, options.seconds, options.seed)


if __name__ == "__main__":
    sys.exit(main())
