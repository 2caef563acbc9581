"""Runs one schedule from its seed, and says what was violated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation import faults as faults_of
from tests.simulation import traffic as traffic_of
from tests.simulation.checks import check
from tests.simulation.faults import Fault
from tests.simulation.settings import VARIANTS
from tests.simulation.world import Say, World

#: Virtual seconds after which everything must have ended.
_LIMIT_S = 30.0


@dataclass(slots=True)
class Schedule:
    """What happens in one run: a seed, and what was taken out of it to find the cause of a failure.

    ``instead`` stands in for the faults of the seed; ``busy`` is the share of answers and chunks that a
    process looks at only some time after they came, ``waiting`` of chunks where that is more. ``transacted``
    is told where fusers must write in transactions, or must not.
    """

    seed: int
    without_requests: frozenset[int] = frozenset()
    without_faults: frozenset[int] = frozenset()
    instead: tuple[Fault, ...] | None = None
    busy: float = 0.08
    waiting: float = 0.0
    transacted: bool | None = None

    @property
    def transacts(self) -> bool:
        """Whether fusers write in transactions; unless told, in every fifth."""
        return self.seed % 5 == 4 if self.transacted is None else self.transacted

    @property
    def variant(self) -> int:
        """Which settings it runs with."""
        return self.seed % VARIANTS

    def faults(self) -> list[Fault]:
        """What goes wrong."""
        if self.instead is not None:
            return list(self.instead)
        return [f for i, f in enumerate(faults_of.draw(self.seed)) if i not in self.without_faults]

    def traffic(self) -> traffic_of.Traffic:
        """What is written."""
        return traffic_of.draw(self.seed, self.variant).without(self.without_requests)


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    violations: list[str]
    virtual_s: float
    crashed: list[tuple[str, str, bool]] = field(default_factory=list)


def run(
    schedule: Schedule,
    say: Say | None = None,
    *,
    begun: Callable[[World], None] | None = None,
    watch: Callable[[World], None] | None = None,
) -> Outcome:
    """Run it to its end and check everything. Call it within ``seams.simulated()``.

    Args:
        say: is told who does what, as it happens.
        begun: gets the world before anything has happened; ``watch`` when all has.
    """
    traffic = schedule.traffic()
    world = World(
        schedule.seed,
        schedule.variant,
        schedule.faults(),
        say,
        schedule.busy,
        schedule.waiting,
        transacted=schedule.transacts,
    )
    try:
        if begun is not None:
            begun(world)
        world.write(traffic.batches(traffic.main))
        why = world.settle(traffic_of.SPAN_S + 1.0, _LIMIT_S)
        if why is None and not world.violations:
            world.clock.broker_ahead_ms += int(traffic_of.JUMP_S * 1000)
            world.write(traffic.batches(traffic.tail))
            world.last = True
            why = world.settle(traffic_of.TAIL_SPAN_S + 0.7, _LIMIT_S)
        if why is None and schedule.seed % 3 == 0:
            # Nobody has anything to write any more, and Redis loses all it had.
            world.redis.flush_all()
            why = world.settle(0.1, _LIMIT_S)
        if why is not None:
            world.violation(f"not settled: {why}")
        if not world.violations:
            check(world)
        world.violations += world.broker.violations
        if watch is not None:
            watch(world)
    finally:
        world.bury()
    return Outcome(world.violations, world.clock.now, world.effects.crashed)
