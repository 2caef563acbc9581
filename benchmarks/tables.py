"""What is printed: one line at a time, tables in Markdown, medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Bar(NamedTuple):
    """A figure that was promised: ``value`` is to be at least (or with ``most`` at most) ``limit``."""

    what: str
    value: float
    limit: float
    most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.most else self.value >= self.limit


def say(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """``median (lowest to highest)``"""
    middle = format(statistics.median(values), form)
    return f"{middle} ({format(min(values), form)} to {format(max(values), form)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    say("")
    for line in lines:
        say("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def bars(found: Sequence[Bar]) -> None:
    """Print the bars and whether they are met."""
    rows = [
        [
            bar.what,
            f"{bar.value:,.3g}" if bar.value < 1000 else f"{bar.value:,.0f}",
            f"{'<=' if bar.most else '>='} {bar.limit:,g}",
            "met" if bar.met else "MISSED",
        ]
        for bar in found
    ]
    if rows:
        table(["bar", "measured", "promised", ""], rows)
