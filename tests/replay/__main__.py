"""``make replay STREAM=FILE.npz RATE=300``: a recorded stream, live and in the backtest."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.errors import SettingsError
from tests.replay.run import BOUND, Outcome, replay
from tests.replay.schedule import DELAY, scheduled
from tests.replay.world import Plan


def main() -> int:
    """Replay the file; the exit code is 1 where something is not as it should be, 2 for a wrong file."""
    parser = argparse.ArgumentParser(prog="make replay")
    parser.add_argument("stream", type=Path, help="class probabilities and labels, as backtest reads them")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second")
    given = parser.parse_args()
    try:
        schedule = scheduled(given.stream)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    began = time.monotonic()
    with EmbeddedKafka() as kafka:
        outcome = replay(kafka.bootstrap, "replay", schedule, Plan(given.rate, DELAY))
    outcome.violations += _beyond_the_bound(outcome)
    print("\n".join(outcome.lines()))
    for violation in outcome.violations:
        print(f"VIOLATION: {violation}")
    if outcome.violations and outcome.folder.exists():
        print(f"logs: {outcome.folder}")
    print(f"{'FAILED' if outcome.violations else 'passed'} in {time.monotonic() - began:.0f} s")
    return 1 if outcome.violations else 0


def _beyond_the_bound(outcome: Outcome) -> list[str]:
    losses = outcome.losses
    if losses is None or abs(losses.live / losses.backtest - 1) <= BOUND:
        return []
    return [f"the live loss is {losses.live / losses.backtest:.4f} x the backtest's, bound {BOUND:.0%}"]


if __name__ == "__main__":
    sys.exit(main())
