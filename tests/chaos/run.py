"""One run: a world, its schedule, and the auditors' verdict."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.chaos.answers_audit import AnswersAudit, Rules
from tests.chaos.labels_audit import LabelsAudit
from tests.chaos.ledger import Ledger
from tests.chaos.recovery import Recovery, recoveries
from tests.chaos.schedule import Schedule
from tests.chaos.topic_log import TopicLog
from tests.chaos.world import CLASSES, DEADLINE_MS, HALF_LIFE, MEMBERS, PARTITIONS, World

RULES = Rules(MEMBERS, CLASSES, PARTITIONS, DEADLINE_MS, silence_ms=2 * DEADLINE_MS)
#: Of three brokers ends are proved so often (ms), and in a transaction answers gather so long.
_PROVED_EACH_MS, _GATHERED_MS = 250, 100
_TOOK_OVER = re.compile(r"took over .* in (\d+) ms")
_SETUP_S, _AFTER_S = 150.0, 300.0


@dataclass(slots=True)
class Outcome:
    """What a run came to; it is as it should be when there are no violations."""

    schedule: Schedule
    folder: Path
    ledger: Ledger = field(default_factory=Ledger)
    recoveries: list[Recovery] = field(default_factory=list)
    latencies_ms: list[int] = field(default_factory=list)
    takeovers_ms: list[int] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def violations(self) -> list[str]:
        """All of them."""
        return self.ledger.violations

    def lines(self) -> list[str]:
        """The report."""
        lines = self.ledger.lines()
        lines.append(f"complete answers after their last prediction: {_spread(self.latencies_ms)}")
        lines.append(
            f"takeovers of a partition by a fuser: {len(self.takeovers_ms)}; {_spread(self.takeovers_ms)}"
        )
        lines += [
            f"{each.fault:24} for {each.lasted_s:4.1f} s: in time again from its begin, answers "
            f"{each.answers_s:5.1f} s, labels {each.labels_s:5.1f} s; longest answer {each.longest_s:5.1f} s"
            for each in self.recoveries
        ]
        lines += [f"ended by itself: {each}" for each in self.restarts]
        return lines


def _spread(figures: list[int]) -> str:
    ordered = sorted(figures) or [0]
    return (
        f"median {statistics.median(ordered):.0f} ms, 99% {ordered[int(0.99 * len(ordered))]} ms, "
        f"longest {ordered[-1]} ms"
    )


def run(schedule: Schedule) -> Outcome:
    """Everything; what a failing run leaves behind stays in its folder, else it is removed."""
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{schedule.mode}-{schedule.delivery}-{schedule.seed}-"))
    # That servers go away is what this is about; who needs to know has the workers' logs.
    clients = logging.getLogger("aiokafka")
    level = clients.level
    clients.setLevel(logging.CRITICAL)
    began = time.monotonic()
    outcome = Outcome(schedule, folder)
    try:
        asyncio.run(_run(schedule, outcome))
    except Exception as error:  # the world broke down: that is a failure like any other, with its logs
        outcome.ledger.wrong("the run broke down", f"{type(error).__name__}: {error}")
    finally:
        clients.setLevel(level)
    outcome.took_s = time.monotonic() - began
    (folder / "report.txt").write_text(
        "\n".join([str(schedule), *outcome.lines(), *outcome.violations]) + "\n"
    )
    if not outcome.violations:
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def _rules(schedule: Schedule) -> Rules:
    more = _PROVED_EACH_MS * (schedule.mode == "three") + _GATHERED_MS * (schedule.delivery == "transactions")
    return replace(RULES, under_way_ms=RULES.under_way_ms + more)


async def _run(schedule: Schedule, outcome: Outcome) -> None:
    world = World(schedule, outcome.folder)
    async with asyncio.timeout(_SETUP_S):
        await world.__aenter__()
    try:
        await world.run()
        async with asyncio.timeout(_AFTER_S):
            await _audit(world, outcome)
    finally:
        await world.__aexit__()


async def _audit(world: World, outcome: Outcome) -> None:
    topics = world.topics
    names = [*topics.predictions, topics.requests, topics.fused, topics.late, topics.feedback]
    names += [topics.weights, topics.applied, topics.dead_letter]
    # Without transactions a careless consumer's reading must do.
    careless = {topics.fused} if world.schedule.delivery == "fenced" else set()
    log = TopicLog(world.brokers.direct, names, careless, outcome.folder)
    await log.start()
    try:
        await world.quiet(log)
        await _tools(world, outcome.ledger)
        await log.catch_up()
    finally:
        await log.stop()
    ledger = outcome.ledger
    replicated = len(world.brokers.nodes) > 1
    acknowledged = _readable_by(log, world) if replicated else {}
    answers = AnswersAudit(log.records, topics, _rules(world.schedule), ledger, acknowledged)
    answers.run()
    LabelsAudit(log.records, topics, RULES, HALF_LIFE, answers.answers, ledger).run()
    _check_written(world, log, ledger)
    for finding in world.findings:
        ledger.wrong("during the run", finding)
    outcome.restarts = [f"{e.slot}, status {e.status}: {e.said}" for e in world.fleet.ended]
    for log_file in outcome.folder.glob("fuse*/log.txt"):
        outcome.takeovers_ms += map(int, _TOOK_OVER.findall(log_file.read_text(errors="replace")))
    outcome.latencies_ms = _latencies(log, world, answers)
    outcome.recoveries = recoveries(
        world.lasted,
        answers.first_ms,
        answers.answers,
        _label_times(log, world, answers),
        DEADLINE_MS,
        world.traffic.until_s,
    )
    if ledger.violations:
        log.dump()


async def _tools(world: World, ledger: Ledger) -> None:
    """The user's own tools must say the same; Redis too holds what the topics say."""
    for arguments in (_audit_command(world), ("weights", "recompute", "--wait", "20"), ("weights", "diff")):
        code, said = await world.tool(*arguments)
        (world.folder / f"{'-'.join(arguments[:2])}.txt").write_text(said)
        if code != 0:
            ledger.wrong(f"stream-ensemble {' '.join(arguments)}", f"exit code {code}: {said[-800:]}")


def _audit_command(world: World) -> tuple[str, ...]:
    """With several brokers a prediction counts from when all in-sync replicas have it, which topics do not
    show: not before the one that is away is no longer in sync, or another leads.
    """
    return ("audit",) if len(world.brokers.nodes) == 1 else ("audit", "--tolerance-ms", "10000")


def _check_written(world: World, log: TopicLog, ledger: Ledger) -> None:
    """What was acknowledged stands in the topics: with a broker that loses records nothing can be shown."""
    standing = {record.place for records in log.records.values() for record in records}
    for written in world.traffic.written:
        if written.place not in standing:
            ledger.wrong("the broker lost a record", f"{written}")
    ledger.counts["unsent"] = len(world.traffic.unsent)


def _readable_by(log: TopicLog, world: World) -> dict[tuple[str, int, int], float]:
    """When each prediction could be read at the latest (ms): it or one behind it was acknowledged."""
    acknowledged = {each.place: each.acknowledged_ms for each in world.traffic.written}
    found: dict[tuple[str, int, int], float] = {}
    for topic in world.topics.predictions:
        earliest: dict[int, float] = {}
        for record in reversed(log.records[topic]):
            own = acknowledged.get(record.place, float("inf"))
            earliest[record.partition] = min(earliest.get(record.partition, float("inf")), own)
            if earliest[record.partition] < float("inf"):
                found[record.place] = earliest[record.partition]
    return found


def _latencies(log: TopicLog, world: World, answers: AnswersAudit) -> list[int]:
    appended = {
        record.place: record.appended for topic in world.topics.predictions for record in log.records[topic]
    }
    found = []
    for answer in answers.answers.values():
        if answer.says["status"] == "complete" and answer.says["sources"]:
            sources = [tuple(source[:3]) for source in answer.says["sources"].values()]
            found.append(
                answer.record.appended - max(appended[source] for source in sources if source in appended)
            )
    return found


def _label_times(log: TopicLog, world: World, answers: AnswersAudit) -> list[tuple[int, int]]:
    """For each label: when both it and its answer stood there, and when it was learned (ms)."""
    labelled: dict[tuple[str, int, int], int] = {
        record.place: record.appended for record in log.records[world.topics.feedback]
    }
    found = []
    for record in log.records[world.topics.applied]:
        says = json.loads(record.value) if record.value else {}
        if says.get("state") == "learned" and says["request_id"] in answers.answers:
            label = labelled.get(tuple(says["origin"][:3]))
            if label is not None:
                could = max(label, answers.answers[says["request_id"]].record.appended)
                found.append((could, record.appended))
    return found
