"""``make fuzz MINUTES=n``: every target by turns until the time is over; what fails is said with its
bytes.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable

import redis
from hypothesis import HealthCheck, given, seed, settings

from stream_ensemble.embedded import EmbeddedRedis
from tests.fuzz import scripts
from tests.fuzz.mutations import near
from tests.fuzz.targets import TARGETS, try_one

#: Examples of one target before the next one has its turn.
_TURN = 500


def turn(name: str, number: int) -> None:
    """Some more examples of one target."""
    example = given(near(TARGETS[name].seeds))(lambda value: try_one(name, value))
    _run(example, number)


def script_turn(client: redis.Redis, number: int) -> None:
    """Some more arguments of the scripts."""
    example = given(scripts.names, scripts.values, scripts.fields, scripts.afters)(
        lambda name, stored, field, after: scripts.try_scripts(client, name, stored, field, after)
    )
    _run(example, number)


def _run(example: Callable[[], None], number: int) -> None:
    limits = settings(
        max_examples=_TURN,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    limits(seed(number)(example))()


def main() -> int:
    arguments = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    given_ = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    end = time.monotonic() + 60 * given_.minutes
    failed: dict[str, BaseException] = {}
    number, turns = given_.seed, 0
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        while time.monotonic() < end:
            for name in ["scripts", *TARGETS]:
                if time.monotonic() >= end or name in failed:
                    continue
                try:
                    script_turn(client, number) if name == "scripts" else turn(name, number)
                except Exception as error:
                    failed[name] = error
                    print(f"{name}, seed {number}:", *traceback.format_exception(error), sep="\n", flush=True)
                turns += 1
            number += 1
    print(f"{turns * _TURN:,} examples, {len(TARGETS) + 1} targets, seed {given_.seed}; {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
