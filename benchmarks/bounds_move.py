"""How long the partitions of a fuse worker go without an answer when it ends and another takes them over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks import flow
from benchmarks.bounds_ends import ends_of
from benchmarks.bounds_squeezed import part
from benchmarks.contestants import Run, new_run
from benchmarks.job import make_job
from benchmarks.load import load
from benchmarks.measure import Ends, RunError
from benchmarks.options import Options
from benchmarks.ours import make_topics, worker
from benchmarks.pages import partitions
from benchmarks.rows import keep
from benchmarks.servers import Servers
from benchmarks.tables import Bar, bars, say
from benchmarks.task import PARTITIONS
from benchmarks.topics import drop_topics, patiently
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess

_STORED = 1_000_000
_RATE = 400
_TRICKLE = 36_000
_LIMIT_S = 150.0
#: The default of ``session_timeout_s``, after which a killed worker is missed.
SESSION_S = 10.0
_MOST_S = 10.0
_COMMITTED_S = 2.5
_STOP_S = 20.0
#: Answers for so long after the signal show where the others go on.
_AFTER_S = 30.0
Node = tuple[ChildProcess, int]


def fuse_move(servers_: Servers, options: Options) -> int:
    """Run it; returns the number of faults."""
    stored = options.requests or _STORED
    job = make_job(stored + _TRICKLE)
    run = new_run(servers_, "move", 0)
    load(servers_.bootstrap, part(job, stored), run.inputs, say)
    make_topics(run)
    nodes = [_start(run, number) for number in range(2)]
    publisher = None
    try:
        ends = Ends(servers_.bootstrap, run.output)
        patiently(ends.now)
        until(lambda: sum(ends.now()) >= stored, [node[0] for node in nodes])
        time.sleep(_COMMITTED_S)
        rows = range(stored, stored + _TRICKLE)
        publisher = flow.command(servers_.bootstrap, run.inputs, len(job), rows, _RATE).start(run, "flow")
        until(lambda: sum(ends.now()) > stored + _RATE, [node[0] for node in nodes])
        silences = {"SIGTERM": _end(run, nodes[0], signal.SIGTERM)}
        nodes.append(_start(run, 2))
        until(lambda: all(len(partitions(port)) == PARTITIONS // 2 for _, port in nodes[1:]), [nodes[2][0]])
        time.sleep(_COMMITTED_S)
        silences["SIGKILL"] = _end(run, nodes[1], signal.SIGKILL)
        publisher.wait(_LIMIT_S)
        until(lambda: sum(ends.now()) >= len(job), [nodes[2][0]])
        ends.close()
    finally:
        for process in [node[0] for node in nodes] + ([publisher] if publisher else []):
            process.stop(_STOP_S)
    found = ends_of(run, job)
    took = [line for node in nodes for line in node[0].output(65_536).splitlines() if "took over" in line]
    drop_topics(servers_.bootstrap, run.name)
    faults = found.faults + len(job) - found.statuses["complete"]
    say(f"  missing {found.missing}, twice {found.twice}, {dict(found.statuses)}")
    report("fuse", stored, silences, _MOST_S, options, faults)
    say("\n".join(took[-6:]))
    return faults


def report(
    app: str, stored: int, silences: dict[str, float], most_s: float, options: Options, faults: int
) -> None:
    """Say and keep how long nothing came of the moved partitions, by the signal that ended their worker."""
    row = {"name": f"move {app}", "stored": stored, "session_s": SESSION_S, "faults": faults}
    row |= {f"{name.lower()}_s": round(silence, 2) for name, silence in silences.items()}
    if options.keep_rows:
        keep("bounds", row)
    say(f"  {row}")
    bars(
        [
            Bar(f"{app}: seconds after SIGTERM", silences["SIGTERM"], most_s, most=True),
            Bar(
                f"{app}: seconds after SIGKILL, less the session",
                silences["SIGKILL"] - SESSION_S,
                most_s,
                most=True,
            ),
        ]
    )


def until(done: Callable[[], bool], processes: Sequence[ChildProcess], limit_s: float = _LIMIT_S) -> None:
    """Wait for it while all these run.

    Raises:
        RunError: one has ended, or the time is up.
    """
    deadline = time.monotonic() + limit_s
    while not done():
        for process in processes:
            if not process.running or time.monotonic() > deadline:
                raise RunError(f"{process.name} does not get on:\n{process.output(4096)}")
        time.sleep(0.1)


def _start(run: Run, number: int) -> Node:
    port = free_port()
    return worker(run, port, number=number).start(run, f"worker-{number}.log"), port


def _end(run: Run, node: Node, how: signal.Signals) -> float:
    """End a worker; the longest time in which one of its partitions had no answer."""
    process, port = node
    moved = partitions(port)
    consumer = Consumer({"bootstrap.servers": run.servers.bootstrap, "group.id": "bench-move"})
    ends = [consumer.get_watermark_offsets(TopicPartition(run.output, p), timeout=10)[1] for p in moved]
    consumer.assign([TopicPartition(run.output, p, end) for p, end in zip(moved, ends, strict=True)])
    time.sleep(1)
    signalled = time.time()
    os.kill(process.pid, how)
    appended: dict[int, list[float]] = {p: [] for p in moved}
    while time.time() < signalled + _AFTER_S:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            appended[message.partition()].append(message.timestamp()[1] / 1000)
    consumer.close()
    say(f"  {how.name}: partitions {moved} moved")
    return max(longest_pause(times, signalled, signalled + _AFTER_S) for times in appended.values())


def longest_pause(times: Sequence[float], begin: float, end: float) -> float:
    """The longest time (s) between two of ``times``, or one and ``end``, that reaches beyond ``begin``."""
    inside = np.array([*times, end])
    before = np.concatenate([[begin], inside[:-1]])
    return float((inside - before)[inside >= begin].max())
