"""``make chaos SEEDS=N MODE=one|three DELIVERY=fenced|transactions``, ``make chaos SEED=n``,
``make chaos SPACED=all``.
"""

from __future__ import annotations

import argparse
import sys

from tests.chaos.run import Outcome, run
from tests.chaos.schedule import (
    Schedule,
    delivery_of,
    faults_of,
    random_schedule,
    short_schedule,
    spaced_schedule,
)


def main() -> int:
    """Run schedules one after the other; the exit code is 1 when one fails."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seeds", type=int, default=3, help="so many runs")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one again")
    parser.add_argument("--mode", choices=["one", "three"], help="brokers; absent: in turn")
    parser.add_argument(
        "--delivery", choices=["fenced", "transactions"], help="how answers are written; absent: in turn"
    )
    parser.add_argument("--short", action="store_true", help="the run of make test")
    parser.add_argument("--spaced", help="these faults alone, one after the other: NAME,NAME or all")
    parser.add_argument("--print", action="store_true", help="only show the schedules")
    given = parser.parse_args()
    failed = []
    for schedule in _schedules(given):
        print(schedule, flush=True)
        if given.print:
            continue
        outcome = run(schedule)
        _tell(outcome)
        if outcome.violations:
            failed.append(outcome)
    for outcome in failed:
        print(f"FAILED: seed {outcome.schedule.seed} {outcome.schedule.mode}: {outcome.folder}")
    return 1 if failed else 0


def _schedules(given: argparse.Namespace) -> list[Schedule]:
    return [
        schedule._replace(delivery=given.delivery or delivery_of(schedule.seed))
        for schedule in _events_of(given)
    ]


def _events_of(given: argparse.Namespace) -> list[Schedule]:
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    if given.short:
        return [short_schedule(seed) for seed in seeds]
    modes = {seed: given.mode or ("three" if seed % 3 == 0 else "one") for seed in seeds}
    if given.spaced:
        return [
            spaced_schedule(
                seed,
                modes[seed],
                list(faults_of(modes[seed])) if given.spaced == "all" else given.spaced.split(","),
            )
            for seed in seeds
        ]
    return [random_schedule(seed, modes[seed]) for seed in seeds]


def _tell(outcome: Outcome) -> None:
    for line in outcome.lines():
        print(f"  {line}")
    verdict = "FAILED" if outcome.violations else "passed"
    print(f"  {verdict} in {outcome.took_s:.0f} s", flush=True)
    for violation in outcome.violations:
        print(f"    {violation}")
    if outcome.violations:
        print(f"  logs and topics: {outcome.folder}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
