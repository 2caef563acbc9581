"""What an audit counts and what it finds wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_SHOWN = 5


@dataclass(slots=True)
class Ledger:
    """Counts by name, and violations: an empty list of them is what every run must show."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    _by_kind: Counter[str] = field(default_factory=Counter)

    def wrong(self, kind: str, what: str) -> None:
        """One violation; many of a kind are counted, and the first few told."""
        self._by_kind[kind] += 1
        if self._by_kind[kind] <= _SHOWN:
            self.violations.append(f"{kind}: {what}")

    def lines(self) -> list[str]:
        """For people."""
        count = self.counts
        told = [
            f"requests {count['requests']} = "
            + " + ".join(
                f"{status} {count[status]}" for status in ("complete", "partial", "fallback", "expired")
            )
            + f"; missing {count['missing']}, duplicates {count['twice']}",
            f"predictions {count['predictions']} = "
            + " + ".join(
                f"{fate} {count[fate]}"
                for fate in ("used", "late", "duplicate", "forwarded", "dead-lettered", "lost")
            ),
            f"labels {count['labels']}: learned {count['learned']} (n {count['n']}), corrected "
            f"{count['corrected']}, not usable {count['unusable labels']}, waiting {count['waiting']}",
            "partial by cause: "
            + (
                ", ".join(f"{k[7:]} {v}" for k, v in sorted(count.items()) if k.startswith("cause: "))
                or "none"
            ),
        ]
        if count["replicated too late"]:
            told.append(
                f"predictions that the brokers held back beyond the deadline: {count['replicated too late']}"
            )
        told += [f"{kind}: {n} in all" for kind, n in self._by_kind.items() if n > _SHOWN]
        return told
