"""``weights diff``: Redis beside the weights topic, or the weights beside kept ones or another ensemble's."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stream_ensemble.cli.weights.chosen import (
    add_ensemble_arguments,
    add_json_argument,
    add_key_argument,
    chosen_ensemble,
    chosen_key,
    ensemble_key,
    named_ensemble,
    shown_key,
)
from stream_ensemble.cli.weights.kept import read_kept
from stream_ensemble.cli.weights.live import Live, in_redis, in_topic, read_live
from stream_ensemble.cli.weights.printing import print_json, print_table
from stream_ensemble.cli.weights.showing import as_json, require_key
from stream_ensemble.config import Settings
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.control_state import CONTROLS


def add_action(actions: Any) -> None:
    """``diff``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "diff",
        help="does Redis hold what the weights topic says; or, what has changed since",
        description="Without --since or --with: every field of Redis that is not what the weights topic "
        "says, for all keys; exit code 1 if there is one. With them: how the weights of one key differ.",
    )
    add_key_argument(parser)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--since", type=Path, metavar="FILE", help="kept from `weights show --json`")
    other.add_argument("--with", dest="other", metavar="NAME", help="another ensemble of the settings")
    add_ensemble_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(act=run)


def run(args: argparse.Namespace) -> int:
    """Print the differences; 1 where Redis does not hold what it should."""
    settings, ensemble = chosen_ensemble(args)
    if args.since or args.other:
        return _of_weights(args, settings, ensemble)
    return _of_redis(args, settings, ensemble)


# --- Redis and the weights topic --------------------------------------------------------------------


def _of_redis(args: argparse.Namespace, settings: Settings, ensemble: LearnedEnsemble) -> int:
    live = asyncio.run(read_live(settings, ensemble))
    if live.redis is None:
        raise ServerUnavailableError(live.redis_away or "Redis is away")
    keys = list(live.topic)
    if args.key is not None:
        keys = [chosen_key(args, ensemble)]
        require_key(live, keys[0])
    both = keys if args.key is not None else [*keys, CONTROLS]
    rows = [row for key in both for row in _fields(live, key)]
    moved = {shown_key(key): _moved(ensemble, live, key) for key in keys}
    if args.json:
        print_json({"same": not rows, "differences": rows, "largest_weight_difference": moved})
    elif rows:
        headings = ("key", "partition", "Redis is", "order there", "order in the topic", "weights differ by")
        print_table(
            f"Redis and the weights topic of {ensemble.name}",
            headings,
            [
                (
                    row["key"],
                    str(row["partition"]),
                    row["redis"],
                    _dotted(row["redis_order"]),
                    _dotted(row["topic_order"]),
                    f"{moved[row['key']]:.3g}" if row["key"] in moved else "-",
                )
                for row in rows
            ],
        )
    else:
        print(f"Redis holds what the weights topic of {ensemble.name} says, in {len(keys)} keys")
    return 1 if rows else 0


def _fields(live: Live, key: Key) -> list[dict[str, Any]]:
    assert live.redis is not None
    return [
        {
            "key": shown_key(key),
            "partition": p,
            "redis": why,
            "redis_order": live.redis.order(key, p),
            "topic_order": getattr(live.stored.get(key, {}).get(p), "order", None),
        }
        for p, why in live.lacking(key).items()
    ]


def _moved(ensemble: LearnedEnsemble, live: Live, key: Key) -> float:
    """The largest difference in a member's weight, everyone awake; none where the segment is cold: what comes
    back is the topic's.
    """
    if live.cold(key):
        return 0.0
    everyone = np.ones((1, len(ensemble.algorithm.members)), np.bool_)
    one, other = (
        ensemble.algorithm.pool(snapshot.values, everyone)
        for snapshot in (in_redis(ensemble, live, key), in_topic(ensemble, live, key))
    )
    return float(np.abs(one - other).max())


def _dotted(order: tuple[int, ...] | None) -> str:
    return "-" if order is None else ".".join(map(str, order))


# --- two states of the weights ----------------------------------------------------------------------


def _of_weights(args: argparse.Namespace, settings: Settings, ensemble: LearnedEnsemble) -> int:
    now = _shown(settings, ensemble, chosen_key(args, ensemble))
    if args.since:
        kept = read_kept(args.since)
        before, name = kept.weights, args.since.name
        n = kept.n
    else:
        other = named_ensemble(settings, args.other)
        segment = chosen_key(args, ensemble).segment
        key = other.task if segment is None else f"{other.task}/{segment}"
        shown = _shown(settings, other, ensemble_key(key, other))
        before, name, n = shown["weights"], other.name, shown["n"]
    rows = _weights(before, now["weights"])
    if args.json:
        print_json({"n": now["n"], "other": name, "other_n": n, "members": rows})
        return 0
    print_table(
        f"{ensemble.name} {now['key']} ({now['n']} labels) beside {name} ({'?' if n is None else n} labels)",
        ("member", name, "now", "difference"),
        [
            (member, _share(row["other"]), _share(row["now"]), _signed(row["difference"]))
            for member, row in rows.items()
        ],
    )
    return 0


def _shown(settings: Settings, ensemble: LearnedEnsemble, key: Key) -> dict[str, Any]:
    live = asyncio.run(read_live(settings, ensemble))
    require_key(live, key)
    return as_json(ensemble, live, key)


def _weights(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    members = list(now) + [member for member in before if member not in now]
    rows: dict[str, dict[str, float | None]] = {}
    for member in members:
        one, other = before.get(member), now.get(member)
        difference = None if one is None or other is None else other - one
        rows[member] = {"other": one, "now": other, "difference": difference}
    return rows


def _share(weight: float | None) -> str:
    return "-" if weight is None else f"{weight:.4f}"


def _signed(difference: float | None) -> str:
    return "-" if difference is None else f"{difference:+.4f}"
