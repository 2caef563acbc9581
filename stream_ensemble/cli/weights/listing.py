"""``weights list``: every (task, segment) that something was learned for."""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from stream_ensemble.cli.weights.chosen import (
    add_ensemble_arguments,
    add_json_argument,
    chosen_ensemble,
    shown_key,
)
from stream_ensemble.cli.weights.live import Live, in_topic, member_lines, pin_lines, read_live
from stream_ensemble.cli.weights.printing import ago, print_json, print_table
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.stores.contributions import Key


def add_action(actions: Any) -> None:
    """``list``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "list",
        help="every task and segment: labels learned, version, age, is it complete in Redis",
        description="Every task and segment that something was learned for, from the weights topic.",
    )
    add_ensemble_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(act=run)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    settings, ensemble = chosen_ensemble(args)
    live = asyncio.run(read_live(settings, ensemble))
    rows = [_row(ensemble, live, key) for key in sorted(live.topic, key=lambda k: (k.task, k.segment or ""))]
    if args.json:
        pins = [pin for pin in live.controls.pins if pin.pinned is not None]
        members = {"members": live.controls.members}
        redis = live.redis_away or "there"
        print_json({"ensemble": ensemble.name, "redis": redis, "keys": rows, "pins": pins} | members)
        return 0
    print_table(
        f"weights of {ensemble.name} ({ensemble.algorithm.name}, {live.partitions} partitions)",
        ("key", "labels", "generation", "version", "age", "in Redis"),
        [
            (
                row["key"],
                str(row["n"]),
                str(row["generation"]),
                row["version"],
                "never" if row["age_s"] is None else ago(row["age_s"]),
                ("cold" if row["cold"] else "complete")
                if row["complete"]
                else _lacking(row["lacking"], live),
            )
            for row in rows
        ],
    )
    for line in (*pin_lines(live), *member_lines(ensemble, live)):
        print(line)
    if live.redis_away:
        print(live.redis_away)
    return 0


def _row(ensemble: LearnedEnsemble, live: Live, key: Key) -> dict[str, Any]:
    version = in_topic(ensemble, live, key).version
    written = live.topic[key].values()
    newest = max((each.at for each in written), default=None)
    lacking = live.lacking(key)
    return {
        "key": shown_key(key),
        "task": key.task,
        "segment": key.segment,
        "n": version.n,
        "generation": version.generation,
        "version": version.digest,
        # By this machine's clock against the one that wrote it.
        "age_s": None if newest is None else round(max(0.0, time.time() - newest / 1000), 3),
        "complete": not lacking,
        "cold": live.cold(key),
        "lacking": {str(p): why for p, why in lacking.items()},
    }


def _lacking(lacking: dict[str, str], live: Live) -> str:
    if live.redis is None:
        return "Redis is away"
    return ", ".join(f"{p}: {why}" for p, why in lacking.items())
