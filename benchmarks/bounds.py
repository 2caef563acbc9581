"""What is bounded stays bounded: backlogs, a starved worker, partitions that move, the disk labels need."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bounds_backlog import backlog
from benchmarks.measure import RunError
from benchmarks.options import Options
from benchmarks.servers import Servers, servers
from benchmarks.tables import say

#: Both workers are in the group before partitions are given out (Kafka's own default).
_BROKER = {"group.initial.rebalance.delay.ms": "3000"}
_PARTS: dict[str, Callable[[Servers, Options], int]] = {"backlog": backlog}


def bounds(options: Options) -> int:
    """Run it; returns the number of faults."""
    faults = 0
    for name, measured in _PARTS.items():
        if options.only and name not in options.only:
            continue
        say(f"\n-- {name}")
        with servers(_BROKER) as servers_:
            try:
                faults += measured(servers_, options)
            except RunError as error:
                say(f"  FAILED: {error}")
                faults += 1
    return faults
