"""What is bounded stays bounded: backlogs, a starved worker, partitions that move, the disk labels need."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bounds_backlog import backlog, tight
from benchmarks.bounds_labels import horizon, learn_move
from benchmarks.bounds_move import fuse_move
from benchmarks.bounds_squeezed import squeezed
from benchmarks.measure import RunError
from benchmarks.options import Options
from benchmarks.servers import Servers, servers
from benchmarks.tables import say

#: Both workers are in the group before partitions are given out (Kafka's own default).
_BROKER = {"group.initial.rebalance.delay.ms": "3000"}
_PARTS: dict[str, tuple[Callable[[Servers, Options], int], ...]] = {
    "backlog": (backlog,),
    "tight": (tight,),
    "squeezed": (squeezed,),
    "move": (fuse_move, learn_move),
    "horizon": (horizon,),
}


def bounds(options: Options) -> int:
    """Run it; returns the number of faults."""
    return sum(
        _once(measured, options)
        for name, parts in _PARTS.items()
        for measured in parts
        if not options.only or {name, measured.__name__} & {*options.only}
    )


def _once(measured: Callable[[Servers, Options], int], options: Options) -> int:
    say(f"\n-- {measured.__name__}")
    with servers(_BROKER) as servers_:
        try:
            return measured(servers_, options)
        except RunError as error:
            say(f"  FAILED: {error}")
            return 1
