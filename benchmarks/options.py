"""What the command line says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.contestants import Contestant
from benchmarks.tables import say


@dataclass(frozen=True, slots=True)
class Options:
    """None: each benchmark has its own default."""

    rounds: int | None
    requests: int | None
    seconds: float | None
    only: tuple[str, ...]
    keep_rows: bool
    rows: int
    rates: tuple[int, ...]

    def chosen(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        """Those named by ``--only``, or all."""
        names = [each.name for each in contestants]
        for name in self.only:
            if name not in names:
                say(f"--only {name}: nobody here; there are {', '.join(names)}")
        return [each for each in contestants if not self.only or each.name in self.only]
