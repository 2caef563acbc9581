"""``weights show``: what each member weighs, and on what grounds."""

from __future__ import annotations

import argparse
import asyncio
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.weights.chosen import (
    add_ensemble_arguments,
    add_json_argument,
    add_key_argument,
    chosen_ensemble,
    chosen_key,
    shown_key,
)
from stream_ensemble.cli.weights.live import Live, in_topic, member_lines, pin_lines, read_live
from stream_ensemble.cli.weights.printing import print_json, print_table
from stream_ensemble.core.learning.calibration import KNOTS, by_name
from stream_ensemble.core.learning.contribution import Contribution
from stream_ensemble.core.learning.control import pin_of
from stream_ensemble.core.learning.explain import ONLY, ArmStanding, explained
from stream_ensemble.core.learning.membership import (
    WARM_LABELS,
    Membership,
    WarmStart,
    admissions,
    membership,
)
from stream_ensemble.core.learning.trial import Record, record_of
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.credit_snapshot import CreditSnapshot
from stream_ensemble.stores.whole import whole_of

_READING = (
    "R: how much better than the fused answer the member (or arm) would have been, summed over the labels; "
    "V: the sum of the squares of that;\nR/sqrt(V): how sure that is (beyond 2: hardly chance). "
    "Only a positive R earns more than the even share."
)


_SURE = (*(f"{1 / (1 + math.exp(-knot)):.3g} sure" for knot in KNOTS), "other classes")
_ON_TEMPERATURES = (
    "by how sure the output was of its first class before; above 1 it is made less sure, below 1 surer."
)


def add_action(actions: Any) -> None:
    """``show``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "show",
        help="what each member weighs, and on what grounds",
        description="What each member weighs with everyone awake, and the regret it stands on in each arm. "
        "With --json it can be kept in a file for `weights diff` and `weights pin`.",
    )
    add_key_argument(parser)
    add_ensemble_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(act=run)


def run(args: argparse.Namespace) -> int:
    """Print the weights of one key."""
    settings, ensemble = chosen_ensemble(args)
    key = chosen_key(args, ensemble)
    live = asyncio.run(read_live(settings, ensemble))
    require_key(live, key)
    shown = as_json(ensemble, live, key)
    if args.json:
        print_json(shown)
    else:
        _print(shown, explained(ensemble.algorithm, whole(ensemble, live, key)))
        for line in (*pin_lines(live), *member_lines(ensemble, live)):
            print(line)
    return 0


def require_key(live: Live, key: Key) -> None:
    """Is there anything of ``key``?

    Raises:
        StreamEnsembleError: nothing was learned for it.
    """
    if key not in live.topic:
        known = ", ".join(shown_key(each) for each in live.topic)
        raise StreamEnsembleError(f"nothing was learned for {shown_key(key)}; there are {known}")


def whole(ensemble: LearnedEnsemble, live: Live, key: Key) -> Contribution:
    """All that counts of ``key``, over the partitions."""
    return whole_of(ensemble.algorithm, live.stored.get(key, {}))


def as_json(ensemble: LearnedEnsemble, live: Live, key: Key) -> dict[str, Any]:
    """Everything about the weights of ``key``; ``credit`` is what a fuser fuses with."""
    snapshot = in_topic(ensemble, live, key)
    arms = explained(ensemble.algorithm, whole(ensemble, live, key))
    config = ensemble.config
    total = whole(ensemble, live, Key(ensemble.task))
    generation, counted = snapshot.version.generation, total.sums.get(WARM_LABELS)
    who = membership(live.controls, config.members, config.shadows, generation, counted)
    weights = _issued(ensemble, snapshot, who)
    pin = pin_of(live.controls, key.segment)
    return {
        "ensemble": ensemble.name,
        "key": shown_key(key),
        "task": key.task,
        "segment": key.segment,
        "algorithm": ensemble.algorithm.name,
        "n": snapshot.version.n,
        "generation": snapshot.version.generation,
        "version": snapshot.version.digest,
        "cold": live.cold(key),
        "weights": dict(zip(ensemble.algorithm.members, weights.tolist(), strict=True)),
        "arms": {arm.name: _arm(ensemble.algorithm.members, arm) for arm in arms},
        "pin": pin,
        "credit": snapshot.block,
        "members": {
            name: {
                "awaited": bool(who.awaited >> k & 1),
                "warm_share": who.shares[k] if who.shares else 0.0,
                "admission": admissions(live.controls).get(name),
                "record": _asdict(record_of(total, name, config.learning.admission.share)),
            }
            for k, name in enumerate(ensemble.algorithm.members)
        },
        "calibration": in_topic(ensemble, live, Key(key.task)).calibration,
    }


def _issued(ensemble: LearnedEnsemble, snapshot: CreditSnapshot, who: Membership) -> NDArray[np.float64]:
    """What each weighs with everyone awake who is awaited, K."""
    awake = np.array([[who.awaited >> k & 1 for k in range(len(ensemble.algorithm.members))]], np.bool_)
    weights: NDArray[np.float64] = ensemble.algorithm.pool(snapshot.values, awake)[0]
    if not who.shares:
        return weights
    credit, algorithm = snapshot.values, ensemble.algorithm
    warm = WarmStart(who.shares, partial(algorithm.pool, credit), partial(algorithm.fuse, credit))
    issued: NDArray[np.float64] = warm.pool(awake)[0]
    return issued


def _asdict(record: Record | None) -> dict[str, float] | None:
    return None if record is None else record._asdict()


def _arm(members: tuple[str, ...], arm: ArmStanding) -> dict[str, Any]:
    standing = {
        member: {
            "weight": float(arm.weights[k]),
            "R": None if arm.regrets is None else float(arm.regrets[k]),
            "V": None if arm.spreads is None else float(arm.spreads[k]),
        }
        for k, member in enumerate(members)
    }
    return {"share": arm.share, "R": arm.regret, "V": arm.spread, "members": standing}


def _print(shown: dict[str, Any], arms: list[ArmStanding]) -> None:
    title = f"{shown['ensemble']}: {shown['key']}, {shown['n']} labels learned by {shown['algorithm']}"
    if shown["cold"]:
        print(f"{shown['key']} is cold: it comes back to Redis at its next label or request")
    single = len(arms) == 1
    print_table(
        f"{title}, generation {shown['generation']}, version {shown['version']}",
        ("member", "weight", *(("R", "V", "R/sqrt(V)") if single else ())),
        [
            (member, f"{weight:.4f}", *(_standing(shown["arms"][ONLY]["members"][member]) if single else ()))
            for member, weight in shown["weights"].items()
        ],
    )
    if not single:
        print_table(
            "arms: ways to weight the members, mixed by how each did",
            ("arm", "share", "R", "V", "R/sqrt(V)"),
            [
                (name, f"{arm['share']:.4f}", *_standing({"R": arm["R"], "V": arm["V"]}))
                for name, arm in shown["arms"].items()
            ],
        )
        print_table("members in each arm", ("member", "arm", "weight", "R", "V", "R/sqrt(V)"), _long(shown))
    print(_READING)
    if shown["calibration"] is not None:
        temperatures = by_name(shown["calibration"])
        print_table("temperatures the fused output is calibrated with", _SURE, [_row_of(temperatures)])
        print(_ON_TEMPERATURES)


def _row_of(temperatures: dict[str, float]) -> tuple[str, ...]:
    return tuple(f"{temperature:.3f}" for temperature in temperatures.values())


def _long(shown: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for member in shown["weights"]:
        for name, arm in shown["arms"].items():
            standing = arm["members"][member]
            yield member, name, f"{standing['weight']:.4f}", *_standing(standing)


def _standing(standing: dict[str, float | None]) -> tuple[str, str, str]:
    """R, V and R/sqrt(V), or dashes where nobody learns them."""
    regret, spread = standing["R"], standing["V"]
    if regret is None or spread is None:
        return "-", "-", "-"
    sure = f"{regret / math.sqrt(spread):+.1f}" if spread > 0 else "-"
    return f"{regret:+.4g}", f"{spread:.4g}", sure
