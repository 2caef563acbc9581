"""When the fuse app of ``credit_switch`` writes credit; nothing else, so that both sides may ask."""

from __future__ import annotations

#: How long it is left out, and how long not.
PHASE_S = 0.4


def with_credit(now: float) -> bool:
    """Is credit written at this time of the monotonic clock, which all processes share?"""
    return int(now / PHASE_S) % 2 == 0
