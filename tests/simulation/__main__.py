"""``make simulate SEEDS=N`` runs N schedules; ``make simulate SEED=n`` replays one, shrunk, with a trace."""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulation import faults
from tests.simulation.run import Schedule, run
from tests.simulation.seams import simulated
from tests.simulation.shrink import shrink
from tests.simulation.traffic import REQUESTS, TAIL
from tests.simulation.world import World

#: So many failing seeds are told.
_MOST_TOLD = 20
_SHARE = 25


def failing(seeds: range) -> list[tuple[int, list[str]]]:
    """The seeds that fail, with what they violate."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    # What is loaded stays: a collection need not look at it.
    gc.freeze()
    found = []
    with simulated():
        for seed in seeds:
            outcome = run(Schedule(seed))
            if outcome.violations:
                found.append((seed, outcome.violations))
            # A schedule leaves a lot of garbage in cycles; it is collected after it, not in its midst.
            gc.collect()
    return found


def sweep(first: int, count: int, jobs: int) -> int:
    """Run seeds ``first`` to ``first + count`` on ``jobs`` cores; returns the exit code."""
    began = time.perf_counter()
    shares = [range(at, min(at + _SHARE, first + count)) for at in range(first, first + count, _SHARE)]
    failed: list[tuple[int, list[str]]] = []
    for found in each(shares, jobs):
        failed += found
    took = time.perf_counter() - began
    rate = 60 * count / took / jobs
    print(
        f"{count} schedules from seed {first}: {count - len(failed)} passed, {len(failed)} failed; "
        f"{took:.1f} s on {jobs} cores, {rate:.0f} schedules a minute and core"
    )
    if not failed:
        return 0
    for seed, violations in sorted(failed)[:_MOST_TOLD]:
        print(f"failing seed: {seed} (make simulate SEED={seed}), {len(violations)} violations")
        for what in violations[:2]:
            print(f"  {what}")
    return 1


def each(shares: list[range], jobs: int) -> Iterator[list[tuple[int, list[str]]]]:
    """:func:`failing` of every share, on ``jobs`` processes."""
    if jobs == 1:
        yield from map(failing, shares)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(failing, shares)


def replay(seed: int, *, whole: bool) -> int:
    """Run one seed; if it fails, shrunk, with everything that happened. Returns the exit code."""
    logging.disable(logging.CRITICAL)
    with simulated():
        outcome = run(Schedule(seed))
        if not outcome.violations and not whole:
            print(f"seed {seed} passes ({outcome.virtual_s:.1f} virtual seconds); WHOLE=1 shows its trace")
            return 0
        schedule = Schedule(seed)
        if outcome.violations and not whole:
            schedule, outcome = shrink(schedule)
        _tell(schedule)
    for what in outcome.violations:
        print(f"violated: {what}")
    return 1 if outcome.violations else 0


def _tell(schedule: Schedule) -> None:
    """Run it once more and print its trace."""
    requests = REQUESTS - len(schedule.without_requests)
    print(f"seed {schedule.seed}, settings {schedule.variant}, {requests} requests and {TAIL} at the end")
    print("what goes wrong:")
    for fault in faults.draw(schedule.seed):
        if fault in schedule.faults():
            print(f"  {fault}")
    world: list[World] = []
    lines: list[tuple[float, str, str, str]] = []

    def say(who: str, what: str, detail: str) -> None:
        lines.append((world[0].clock.now if world else 0.0, who, what, detail))

    run(schedule, say, begun=world.append)
    for now, who, what, detail in lines:
        print(f"{now:8.3f}  {who:8}  {what:22}  {detail[:160]}")


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many schedules to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    parser.add_argument("--seed", type=int, help="replay this one instead")
    parser.add_argument("--whole", action="store_true", help="replay it unshrunk, also if it passes")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return replay(arguments.seed, whole=arguments.whole)
    return sweep(arguments.first, arguments.seeds, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
