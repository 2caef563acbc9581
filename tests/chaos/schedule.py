"""What happens in a run and when: decided from the seed alone."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple

Mode = Literal["one", "three"]
Delivery = Literal["fenced", "transactions"]


class Event(NamedTuple):
    """A fault: when it begins, how long it lasts, and a number by which it chooses its target."""

    at_s: float
    fault: str
    lasts_s: float
    target: int

    def __str__(self) -> str:
        return f"{self.at_s:5.1f} s  {self.fault} for {self.lasts_s:.1f} s (target {self.target})"


class Schedule(NamedTuple):
    """One run. ``near_last_epoch``: transactional ids begin just below their last epoch; ``delivery``: the
    fusers' setting.
    """

    seed: int
    mode: Mode
    fusers: int
    learners: int
    requests_a_second: int
    near_last_epoch: bool
    traffic_s: float
    events: tuple[Event, ...]
    delivery: Delivery = "fenced"

    def __str__(self) -> str:
        brokers = "one broker" if self.mode == "one" else "three brokers"
        head = (
            f"seed {self.seed}: {brokers}, {self.fusers} fusers, "
            f"{self.learners} learners, {self.requests_a_second} requests a second for {self.traffic_s:.0f} s"
            + (", answers in transactions" if self.delivery == "transactions" else "")
            + (", transactional ids near their last epoch" if self.near_last_epoch else "")
        )
        return "\n".join([head, *(f"  {event}" for event in self.events)])


#: By fault: shortest and longest time it lasts.
WORKER_FAULTS: dict[str, tuple[float, float]] = {
    "kill-fuser": (0.0, 6.0),
    "kill-learner": (0.0, 6.0),
    "term-fuser": (0.0, 6.0),
    "term-learner": (0.0, 6.0),
    "freeze-fuser": (7.5, 12.0),
    "freeze-learner": (7.5, 12.0),
    "add-fuser": (6.0, 15.0),
    "add-learner": (6.0, 15.0),
    "all-workers-down": (30.0, 30.0),
    "delete-disk": (0.0, 4.0),
    "wrong-clock": (8.0, 20.0),
}
REDIS_FAULTS: dict[str, tuple[float, float]] = {
    "stop-redis": (3.0, 10.0),
    "restart-redis": (0.0, 0.0),
    "flush-redis": (0.0, 0.0),
    "redis-script-fails": (1.0, 3.0),
    "redis-script-unanswered": (1.0, 4.0),
}
NETWORK_FAULTS: dict[str, tuple[float, float]] = {
    "cut-connections": (0.5, 4.0),
    "slow-connections": (4.0, 10.0),
}
TRAFFIC_FAULTS: dict[str, tuple[float, float]] = {
    "silent-member": (4.0, 8.0),
    "flood-of-duplicates": (2.0, 4.0),
}
ONE_BROKER_FAULTS: dict[str, tuple[float, float]] = {"stop-broker": (1.0, 5.0), "kill-broker": (1.0, 5.0)}
THREE_BROKER_FAULTS: dict[str, tuple[float, float]] = {
    "stop-broker": (2.0, 8.0),
    "kill-broker": (2.0, 8.0),
    "freeze-broker": (4.0, 8.0),
    "rolling-restart": (0.0, 1.0),
}


def faults_of(mode: Mode) -> dict[str, tuple[float, float]]:
    """All there are in this mode."""
    brokers = ONE_BROKER_FAULTS if mode == "one" else THREE_BROKER_FAULTS
    return {**WORKER_FAULTS, **REDIS_FAULTS, **NETWORK_FAULTS, **TRAFFIC_FAULTS, **brokers}


def delivery_of(seed: int) -> Delivery:
    """The mode a seed has where none is asked for: the rarer one in every fourth."""
    return "transactions" if seed % 4 == 0 else "fenced"


def random_schedule(seed: int, mode: Mode) -> Schedule:
    """Faults at random, at most one of the longest, until some 60 s are full; they may overlap."""
    chance = random.Random(f"chaos {mode} {seed}")
    known = faults_of(mode)
    brokers = set(ONE_BROKER_FAULTS) | set(THREE_BROKER_FAULTS)
    events = []
    at_s, drawn = chance.uniform(2.0, 5.0), list(known)
    chance.shuffle(drawn)
    # A fault of a broker and a zombie are always among those drawn, though a run may be full before them.
    first = [
        chance.choice(sorted(brokers & set(known))),
        "freeze-fuser",
        chance.choice(sorted(WORKER_FAULTS)),
    ]
    order = list(dict.fromkeys([*first, *drawn]))[:12]
    chance.shuffle(order)
    for fault in order:
        if at_s > 52.0:
            break
        event = _event(chance, at_s, fault, known[fault])
        events.append(event)
        # Mostly the next one begins while this one lasts or its effects do.
        at_s += min(event.lasts_s, 12.0) * chance.uniform(0.3, 1.1) + chance.uniform(1.5, 5.0)
    return Schedule(
        seed,
        mode,
        fusers=chance.randint(2, 4 if mode == "one" else 3),
        learners=chance.randint(2, 3),
        requests_a_second=chance.choice([100, 150, 200]),
        near_last_epoch=chance.random() < 0.5,
        traffic_s=max(event.at_s + event.lasts_s for event in events) + 4.0,
        events=tuple(events),
    )


def spaced_schedule(seed: int, mode: Mode, names: list[str], gap_s: float = 15.0) -> Schedule:
    """These faults one after the other, each alone, so that the recovery after it can be told."""
    chance = random.Random(f"spaced {mode} {seed}")
    known = faults_of(mode)
    events = []
    at_s = 6.0
    for name in names:
        event = _event(chance, at_s, name, known[name])
        events.append(event)
        at_s += event.lasts_s + gap_s
    return Schedule(seed, mode, 2, 2, 100, False, at_s, tuple(events))


def short_schedule(seed: int) -> Schedule:
    """The run that is part of ``make test``."""
    chance = random.Random(f"short {seed}")
    names = ["flush-redis", "kill-fuser", "kill-learner", "freeze-fuser", "restart-redis", "stop-broker"]
    events = []
    at_s = 3.0
    for name in names:
        event = _event(chance, at_s, name, faults_of("one")[name])
        events.append(event)
        at_s += chance.uniform(2.0, 5.0)
    return Schedule(seed, "one", 2, 2, 100, False, 28.0, tuple(events))


def _event(chance: random.Random, at_s: float, fault: str, lasts: tuple[float, float]) -> Event:
    return Event(round(at_s, 1), fault, round(chance.uniform(*lasts), 1), chance.randrange(1000))
