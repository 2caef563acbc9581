"""What a person sees: a live view while the demo runs, and the table at its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stream_ensemble.demo.scenario import MEMBERS
from stream_ensemble.demo.tally import Tally

_ROLLING = 300
_BAR = 24
_PLAIN_EVERY_S = 5.0
_SCORES = ("accuracy", "log loss", "macro F1")


class View(Protocol):
    """Where the run shows itself."""

    def say(self, line: str) -> None:
        """Something happened."""

    def show(self, tally: Tally, labels: np.ndarray[Any, Any]) -> None:
        """How things stand."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class PlainView:
    """Lines, for pipes and logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._shown = 0.0

    def say(self, line: str) -> None:
        """See ``View``."""
        stamp = f"{time.monotonic() - self._began:5.1f} s  "
        self._console.print(stamp + line, markup=False, highlight=False, soft_wrap=True)

    def show(self, tally: Tally, labels: np.ndarray[Any, Any]) -> None:
        """See ``View``: a line every few seconds."""
        now = time.monotonic()
        if now - self._shown < _PLAIN_EVERY_S:
            return
        self._shown = now
        rolling = _rolling_accuracy(tally, labels)
        weights = _last_weights(tally)
        self.say(
            f"{tally.ended}/{tally.plan.requests} answered, "
            f"{int(tally.learned.max(initial=0))} labels learned; "
            f"accuracy now: fused {rolling['fused']:.3f}, "
            + ", ".join(f"{m} {rolling[m]:.3f} (w {weights[k]:.2f})" for k, m in enumerate(MEMBERS))
        )

    def close(self) -> None:
        """See ``View``."""


class LiveView:
    """One screen that is drawn anew four times a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._events: deque[str] = deque(maxlen=8)
        self._marks: deque[tuple[float, int]] = deque([(self._began, 0)], maxlen=40)
        self._live = Live(Text(""), console=console, refresh_per_second=4, transient=True)
        self._live.start()

    def say(self, line: str) -> None:
        """See ``View``."""
        self._events.append(f"{time.monotonic() - self._began:5.1f} s  {line}")
        self._live.update(Text("\n".join(self._events)))

    def show(self, tally: Tally, labels: np.ndarray[Any, Any]) -> None:
        """See ``View``."""
        self._marks.append((time.monotonic(), tally.ended))
        (t0, n0), (t1, n1) = self._marks[0], self._marks[-1]
        rate = (n1 - n0) / max(t1 - t0, 1e-9)
        rolling, weights = _rolling_accuracy(tally, labels), _last_weights(tally)
        table = Table(box=None, pad_edge=False)
        for heading in ("member", "accuracy now", "weight", ""):
            table.add_column(heading, justify="left" if heading in ("member", "") else "right")
        for k, member in enumerate(MEMBERS):
            bar = "█" * round(float(np.nan_to_num(weights[k])) * _BAR)
            table.add_row(member, _percent(rolling[member]), f"{weights[k]:.2f}", Text(bar, style="cyan"))
        fused = Text(_percent(rolling["fused"]), style="bold green")
        table.add_row(Text("fused", style="bold"), fused, "", "")
        statuses = "  ".join(f"{status} {count}" for status, count in tally.statuses.items()) or "nothing yet"
        head = (
            f"{tally.ended} of {tally.plan.requests} answered   {rate:.0f}/s   "
            f"{int(tally.learned.max(initial=0))} labels learned   {statuses}"
        )
        # In a grid, because a bar by itself does not end its line.
        progress = Table.grid()
        progress.add_row(ProgressBar(total=tally.plan.requests, completed=tally.ended, width=72))
        self._live.update(Group(Text(head), progress, table, Text("\n".join(self._events), style="dim")))

    def close(self) -> None:
        """See ``View``: the events stay in the terminal."""
        self._live.stop()
        self._console.print("\n".join(self._events), markup=False, highlight=False)


def result_tables(figures: Mapping[str, Any]) -> list[Table]:
    """The scores of everyone over the whole run, and after the fault."""
    whole = Table(title="the whole run", title_justify="left", box=SIMPLE_HEAD)
    whole.add_column("")
    for heading in (*_SCORES, "answered", "p50 ms", "p99 ms"):
        whole.add_column(heading, justify="right")
    after = Table(title="after the fault", title_justify="left", box=SIMPLE_HEAD)
    after.add_column("")
    for heading in (*_SCORES, "answered"):
        after.add_column(heading, justify="right")
    for name in (*MEMBERS, "uniform", "vote", "fused"):
        style = "bold green" if name == "fused" else None
        latency = figures["member_latency_ms"].get(name) or (
            figures["latency_ms"] if name == "fused" else None
        )
        times = ["", ""] if latency is None else [f"{latency['p50']:.0f}", f"{latency['p99']:.0f}"]
        whole.add_row(name, *_cells(figures, name), *times, style=style)
        after.add_row(name, *_cells(figures["after_fault"], name), style=style)
    return [whole, after]


def _cells(part: Mapping[str, Any], name: str) -> list[str]:
    scores = part["members"].get(name) or part[name]
    numbers = [f"{scores[key]:.4f}" for key in ("accuracy", "log_loss", "macro_f1")]
    return [*numbers, f"{scores['answered']:.1%}"]


def _rolling_accuracy(tally: Tally, labels: np.ndarray[Any, Any]) -> dict[str, float]:
    recent = np.flatnonzero(tally.terminal > 0)[-_ROLLING:]
    outputs = {"fused": tally.fused, **{m: tally.components[:, k] for k, m in enumerate(MEMBERS)}}
    found = {}
    for name, output in outputs.items():
        there = recent[~np.isnan(output[recent]).any(axis=1)]
        right = output[there].argmax(axis=1) == labels[there]
        found[name] = float(right.mean()) if len(there) else float("nan")
    return found


def _last_weights(tally: Tally) -> np.ndarray[Any, Any]:
    there = np.flatnonzero(~np.isnan(tally.weights).all(axis=1))
    return tally.weights[there[-1]] if len(there) else np.full(len(MEMBERS), np.nan)


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"
