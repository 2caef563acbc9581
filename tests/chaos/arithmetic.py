"""ML-Poly in plain Python, written from the paper's formulas and the rules in the documentation."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_FLOOR = 0.01
_CLIP = 10.0
_TINY = 1e-12


class Increment(NamedTuple):
    """What one label teaches: a regret for each member, at the clock of the weights it was fused with."""

    regrets: tuple[float, ...]
    clock: float

    def of(self, name: str) -> list[float]:
        """What it adds to one of the sums."""
        return {
            "R": list(self.regrets),
            "V": [r * r for r in self.regrets],
            "|r|": [abs(r) for r in self.regrets],
        }[name]


def increment(
    members: Sequence[str], block: Mapping[str, Any], components: Mapping[str, Sequence[float]], label: int
) -> Increment:
    """The linearised log-loss regrets ``x_i / m - 1`` of the awake members, at the credit of the answer."""
    raw = base64.b64decode(block["values"])
    credit = dict(zip(block["members"], struct.unpack(f"<{len(raw) // 8}d", raw), strict=True))
    awake = [member for member in members if member in components]
    total = sum(credit[member] for member in awake)
    mean = 0.0
    for member in awake:
        share = 1 / len(awake) if total == 0 else (1 - _FLOOR) * credit[member] / total + _FLOOR / len(awake)
        mean += share * components[member][label]
    regrets = []
    for member in members:
        if member not in components or mean < _TINY:
            regrets.append(0.0)
            continue
        r = components[member][label] / mean - 1
        regrets.append(0.0 if abs(r) < 1e-12 * max(1.0, r + 1) else min(r, _CLIP))
    return Increment(tuple(regrets), float(block["n"]))


def discounted_sum(increments: Sequence[Increment], name: str, clock: float, half_life: float) -> list[float]:
    """The sums as of ``clock``, member by member, each rounded once only."""
    columns = zip(
        *(
            [value * 2.0 ** (-(clock - each.clock) / half_life) for value in each.of(name)]
            for each in increments
        ),
        strict=True,
    )
    return [math.fsum(column) for column in columns]
