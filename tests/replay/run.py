"""One replay: its world, its figures beside the backtest's, and the verdict."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stream_ensemble.errors import StreamEnsembleError
from tests.replay.answers import Answers, answers, as_late
from tests.replay.schedule import CORRECTED_AFTER, Schedule, twice_and_wrong
from tests.replay.world import Plan, World, command

#: How far the live loss may be from the backtest's, as a share of it.
BOUND = 0.01
_SETUP_S, _TOOLS_S = 120.0, 300.0


@dataclass(slots=True)
class Losses:
    """Mean log losses over all requests.

    Attributes:
        live: of the fused outputs in the topic.
        backtest: what ``stream-ensemble backtest`` says for the schedule.
        as_late: the same with the labels as late as they were in use, live.
        uniform, best_single: as the backtest says.
    """

    live: float
    backtest: float
    as_late: float
    uniform: float
    best_single: float


@dataclass(slots=True)
class Outcome:
    """What a replay came to; it is as it should be when there are no violations."""

    schedule: Schedule
    plan: Plan
    folder: Path
    losses: Losses | None = None
    statuses: Counter[str] = field(default_factory=Counter)
    #: By how many requests the labels in use were behind the backtest's, in the mean.
    late: float = 0.0
    events: list[str] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """The report."""
        schedule, plan = self.schedule, self.plan
        twice, wrong = twice_and_wrong(schedule.rows)
        silent, first, last = schedule.silent
        yield (
            f"{schedule.rows:,} requests of {len(schedule.members)} members x {schedule.classes} classes, "
            f"{plan.rate:g} a second; labels {plan.delay:,} requests later"
        )
        yield f"from request {schedule.rows // 2:,} on {' and '.join(schedule.swapped)} have changed places"
        yield f"{silent} is silent from request {first:,} to {last:,}"
        yield f"labels: {len(twice)} twice, {len(wrong)} wrong and corrected {CORRECTED_AFTER} requests later"
        yield from self.events
        ended = ", ".join(f"{count:,} {status}" for status, count in self.statuses.most_common())
        yield f"answers: {ended}"
        if self.losses is not None:
            yield from self._loss_lines(self.losses)
        yield from self.said.values()

    def _loss_lines(self, losses: Losses) -> Iterator[str]:
        seconds = self.late / self.plan.rate
        yield f"labels in use: {self.late:.0f} requests ({seconds:.2f} s) later than in the backtest"
        yield f"log loss: live                       {losses.live:.5f}"
        for name, value in (
            ("backtest", losses.backtest),
            ("backtest, labels as late as live", losses.as_late),
        ):
            yield f"          {name:<33}{value:.5f}   live / it: {losses.live / value:.4f}"
        yield f"          uniform                    {losses.uniform:.5f}"
        yield f"          best single member         {losses.best_single:.5f}"


def replay(bootstrap: str, name: str, schedule: Schedule, plan: Plan) -> Outcome:
    """Everything; what a failing run leaves behind stays in its folder, else it is removed.

    Args:
        bootstrap: a Kafka on which ``name`` is nobody's ensemble.
    """
    outcome = Outcome(schedule, plan, Path(tempfile.mkdtemp(prefix="replay-")))
    try:
        asyncio.run(_replay(bootstrap, name, outcome))
    except* (AssertionError, OSError, TimeoutError, StreamEnsembleError) as broke_down:
        # That is a failure like any other, with its logs.
        outcome.violations += [
            f"the run broke down: {type(error).__name__}: {error}" for error in _leaves(broke_down)
        ]
    if not outcome.violations:
        shutil.rmtree(outcome.folder, ignore_errors=True)
    return outcome


def _leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for error in group.exceptions:
        yield from _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]


async def _replay(bootstrap: str, name: str, outcome: Outcome) -> None:
    world = World(bootstrap, name, outcome.schedule, outcome.plan, outcome.folder)
    async with asyncio.timeout(_SETUP_S):
        await world.__aenter__()
    try:
        await world.run()
        async with asyncio.timeout(_TOOLS_S):
            await _judge(world, bootstrap, outcome)
    finally:
        outcome.events += world.events
        outcome.violations += world.findings
        await world.__aexit__()


async def _judge(world: World, bootstrap: str, outcome: Outcome) -> None:
    await _tools(world, outcome)
    found = await answers(bootstrap, world.topics.fused, outcome.schedule, outcome.folder)
    outcome.statuses = found.statuses
    unlike_once = int((found.times != 1).sum())
    if unlike_once:
        outcome.violations.append(f"{unlike_once} requests are not answered exactly once")
    if np.isnan(found.outputs).any():
        outcome.violations.append("requests without an output, though members answered")
        return
    outcome.late = _late(found, outcome.plan.delay)
    outcome.losses = await _losses(world, found, outcome)


def _late(found: Answers, delay: int) -> float:
    rows = np.arange(delay, len(found.learned))
    return float((rows - delay - found.learned[rows]).mean()) if len(rows) else 0.0


async def _losses(world: World, found: Answers, outcome: Outcome) -> Losses:
    arguments = ("--loss", "log", "--delay", str(outcome.plan.delay), "--json")
    code, said = await asyncio.to_thread(command, "backtest", str(world.stream), *arguments)
    assert code == 0, said
    backtest = json.loads(said)
    return Losses(
        live=float(found.losses(outcome.schedule.labels).mean()),
        backtest=backtest["loss"],
        as_late=await asyncio.to_thread(as_late, outcome.schedule, found.learned),
        uniform=backtest["uniform"],
        best_single=backtest["best_single"],
    )


async def _tools(world: World, outcome: Outcome) -> None:
    """What an operator would ask: are the weights what the topics give, and does the ledger balance."""
    for arguments in (("weights", "recompute"), ("weights", "diff")):
        code, said = await world.tool(*arguments)
        outcome.said[" ".join(arguments)] = said.strip()
        if code != 0:
            outcome.violations.append(f"stream-ensemble {' '.join(arguments)} ended with {code}: {said}")
    code, said = await world.tool("audit", "--json")
    if code != 0:
        outcome.violations.append(f"stream-ensemble audit ended with {code}: {said}")
        return
    counts = json.loads(said)["ensembles"][0]["counts"]
    outcome.said["audit"] = "audit: the ledger balances; " + ", ".join(
        f"{name} {counts.get(name, 0):,}" for name in ("requests", "used", "late", "duplicate", *_LABELS)
    )
    outcome.violations += label_findings(counts, outcome.schedule.rows)


_LABELS = ("labels", "labels-learned", "labels-superseded")


def label_findings(counts: dict[str, int], rows: int) -> list[str]:
    """Every label was published and counts once; what it repeats or corrects does not count any more."""
    more = sum(map(len, twice_and_wrong(rows)))
    wanted = dict(zip(_LABELS, (rows + more, rows, more), strict=True))
    return [
        f"audit: {name} are {counts.get(name, 0)}, expected {count}"
        for name, count in wanted.items()
        if counts.get(name, 0) != count
    ]
