"""The ledger of one partition: every request and every record counted exactly once.

``requests = complete + partial + fallback + expired + open`` and
``predictions = used + late + unneeded + duplicate + dead-lettered + forwarded + held``.
Records read again after a restart are ``replayed`` and stand outside the sums.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Ledger:
    """Counts since this process took the partition."""

    requests: int = 0
    complete: int = 0
    partial: int = 0
    fallback: int = 0
    expired: int = 0
    predictions: int = 0
    used: int = 0
    late: int = 0
    unneeded: int = 0
    duplicate: int = 0
    dead_lettered: int = 0
    forwarded: int = 0
    held: int = 0
    replayed: int = 0
    conflicting: int = 0
    late_requests: int = 0

    def request_difference(self, still_open: int) -> int:
        """Requests seen minus requests accounted for; 0 when the ledger balances."""
        return self.requests - (self.complete + self.partial + self.fallback + self.expired + still_open)

    def prediction_difference(self) -> int:
        """Predictions seen minus predictions accounted for; 0 when the ledger balances."""
        accounted = (
            self.used + self.late + self.unneeded + self.duplicate + self.dead_lettered + self.forwarded
        )
        return self.predictions - accounted - self.held

    def as_dict(self) -> dict[str, int]:
        """All counts by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}
