"""What goes wrong in one schedule, and when."""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.simulation.effects import FUSER, LEARNER, CrashPoint
from tests.simulation.settings import NAME, PARTITIONS
from tests.simulation.traffic import SPAN_S

HOSTS = ("fuse-0", "fuse-1", "learn-0", "learn-1")
#: Crashes and rebalances of one schedule, at least.
LEAST = 5
#: Each makes a worker end or partitions move.
_MOVING = ("crash", "crash", "crash", "freeze", "freeze", "rebalance", "stop", "cut")
#: Each hurts what is written or read.
_HURTING = (
    "unreadable", "refuse", "refuse", "redis away", "redis empty", "redis older", "cut redis", "short freeze",
    "new leader", "new leader", "oversized",
)  # fmt: skip
#: A crash around an effect that does not come happens so much later all the same.
CRASH_ANYWAY_S = 0.6


class Fault(NamedTuple):
    """One thing that goes wrong at virtual time ``when``, for ``length`` seconds where that means anything.

    ``target`` is a host, a group (``fuse``, ``learn``) or a topic partition; ``point`` says where a crash is.
    """

    when: float
    kind: str
    target: str = ""
    length: float = 0.0
    point: CrashPoint | None = None

    def __str__(self) -> str:
        where = ""
        if self.point is not None:
            where = (
                f" {'after' if self.point.after else 'before'} {self.point.effect} number {self.point.nth}"
            )
        return f"{self.when:.3f} {self.kind} {self.target}{where}" + (
            f" for {self.length:.2f} s" if self.length else ""
        )


def draw(seed: int) -> list[Fault]:
    """The faults of a seed."""
    rng = random.Random(seed ^ 0x5EED)
    found: list[Fault] = []
    for _ in range(rng.randint(LEAST, LEAST + 2)):
        found += _moving(rng, rng.choice(_MOVING), 0.3 + rng.random() * (SPAN_S + 0.5))
    for _ in range(rng.randint(1, 3)):
        found.append(_hurting(rng, rng.choice(_HURTING), 0.3 + rng.random() * (SPAN_S + 0.5)))
    return sorted(found, key=lambda fault: fault.when)


def moves(fault: Fault) -> bool:
    """Does it count among the crashes and rebalances?"""
    return fault.kind in _MOVING


def _moving(rng: random.Random, kind: str, when: float) -> list[Fault]:
    host = rng.choice(HOSTS)
    role = host.partition("-")[0]
    if kind == "crash":
        effects = FUSER if role == "fuse" else LEARNER
        effect = rng.choice(effects)
        point = CrashPoint(host, when, effect, rng.choice((1, 1, 1, 2, 3)), rng.random() < 0.5)
        found = [Fault(when, kind, host, 0.05 + 0.6 * rng.random(), point)]
        if effect in effects[:3]:
            # These come with a partition only.
            found.append(Fault(when, "rebalance", role))
        return found
    if kind == "rebalance":
        return [Fault(when, kind, role)]
    if kind == "freeze":
        return [Fault(when, kind, host, 0.3 + 3.0 * rng.random())]
    if kind == "cut":
        return [Fault(when, kind, host, 0.2 + 2.3 * rng.random())]
    return [Fault(when, kind, host, 0.05 + 0.5 * rng.random())]


def _hurting(rng: random.Random, kind: str, when: float) -> Fault:
    if kind == "unreadable":
        topic = rng.choice(("predictions.a", "predictions.b", "predictions.c", "requests"))
        return Fault(when, kind, f"{NAME}.{topic}/{rng.randrange(PARTITIONS)}", 0.3 + 1.5 * rng.random())
    if kind == "refuse":
        topic = rng.choice(("fused", "fused", "late"))
        return Fault(when, kind, f"{NAME}.{topic}/{rng.randrange(PARTITIONS)}")
    if kind == "oversized":
        topic = rng.choice(("fused", "fused", "late"))
        return Fault(when, kind, f"{NAME}.{topic}/{rng.randrange(PARTITIONS)}", 0.3 + 1.2 * rng.random())
    if kind == "new leader":
        return Fault(when, kind, "", 0.2 + 0.8 * rng.random())
    if kind == "short freeze":
        return Fault(when, kind, rng.choice(HOSTS), 0.1 + 0.8 * rng.random())
    if kind == "cut redis":
        return Fault(when, kind, rng.choice(HOSTS), 0.3 + 2.0 * rng.random())
    if kind == "redis away":
        return Fault(when, kind, "", 0.3 + 2.0 * rng.random())
    return Fault(when, kind, "", 0.2 + rng.random())
