"""The fuse app without credit half of the time, by turns: ``faust -A benchmarks.credit_switch worker``.

What it takes to say what labels are charged against is then the difference between turns of one process.
"""

from __future__ import annotations

import time

from benchmarks.credit_phases import with_credit
from stream_ensemble.fuse import app
from stream_ensemble.fuser.fusion import Fusion, InUse
from stream_ensemble.messages import Calibration, Credit, CreditBlock

__all__ = ["app"]

_credit, _due = InUse.credit, Fusion._due


def _switched_credit(in_use: InUse, calibration: Calibration | None) -> Credit | None:
    return _credit(in_use, calibration) if with_credit(time.monotonic()) else None


def _switched_due(fusion: Fusion, in_use: InUse) -> dict[str, CreditBlock]:
    return _due(fusion, in_use) if with_credit(time.monotonic()) else {}


InUse.credit = _switched_credit  # type: ignore[method-assign, assignment]
Fusion._due = _switched_due  # type: ignore[method-assign]
