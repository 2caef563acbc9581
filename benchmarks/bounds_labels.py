"""Learners with a million stored requests: how long their partitions learn nothing when they move, and what a
stored request takes on disk.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from benchmarks.bounds_move import Node, longest_pause, report, until
from benchmarks.contestants import Command, Run, faust, new_run
from benchmarks.job import Job, make_job
from benchmarks.label_log import ENSEMBLE, Progress, label_values, labels_of, make_topics, settings_of, worker
from benchmarks.load import Loader, add
from benchmarks.measure import Ends
from benchmarks.options import Options
from benchmarks.pages import partitions
from benchmarks.rows import keep
from benchmarks.servers import Servers
from benchmarks.tables import say, table
from benchmarks.task import CLASSES, MEMBERS, PARTITIONS
from benchmarks.topics import drop_topics, patiently
from benchmarks.values import id_list
from stream_ensemble import config
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.settings_file import dump

_STORED = 1_000_000
_HORIZON = 400_000
_LABELS_A_SECOND = 400
_LIMIT_S = 150.0
_MOST_S = 60.0
_STOP_S = 20.0
_AFTER_S = 45.0
_LOOK_S = 0.05
_SETTLE_S = 3.0
#: Requests of 24 hours at 1,000 a second.
_DAY = 86_400 * 1_000


def learn_move(servers_: Servers, options: Options) -> int:
    """Run it; returns the number of faults."""
    job = make_job(options.requests or _STORED)
    run = new_run(servers_, "move-labels", 0)
    settings = settings_of(run, run.name)
    make_topics(settings)
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    nodes = [_start(run, settings, number) for number in range(2)]
    progress = Progress(servers_.bootstrap, settings)
    try:
        _fuse(run, settings, job)
        until(lambda: progress.now().fused >= len(job), [node[0] for node in nodes])
        with _labels(servers_, topics.feedback, job):
            until(lambda: progress.now().labels > _LABELS_A_SECOND, [node[0] for node in nodes])
            silences = {"SIGTERM": _end(run, settings, nodes[0], signal.SIGTERM)}
            nodes.append(_start(run, settings, 2))
            until(
                lambda: all(len(partitions(port)) == PARTITIONS // 2 for _, port in nodes[1:]), [nodes[2][0]]
            )
            time.sleep(_SETTLE_S)
            silences["SIGKILL"] = _end(run, settings, nodes[1], signal.SIGKILL)
        published = sum(_ends(servers_, topics.feedback))
        until(lambda: progress.now().labels >= published, [nodes[2][0]])
    finally:
        for process, _ in nodes:
            process.stop(_STOP_S)
        progress.close()
    drop_topics(servers_.bootstrap, run.name)
    report("learn", len(job), silences, _MOST_S, options, 0)
    return 0


def horizon(servers_: Servers, options: Options) -> int:
    """What the local store takes; returns the number of faults."""
    job = make_job(options.requests or _HORIZON)
    run = new_run(servers_, "horizon", 0)
    settings = settings_of(run, run.name)
    make_topics(settings)
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    progress = Progress(servers_.bootstrap, settings)
    data = Path(settings.worker.data_dir)
    with worker(run, settings, "stream_ensemble.learn") as learner:
        _fuse(run, settings, job)
        until(lambda: progress.now().fused >= len(job), [learner])
        stored = _bytes(data) / len(job)
        names = id_list(job.ids)
        loader = Loader(servers_.bootstrap)
        loader.publish(topics.feedback, names, label_values(names, labels_of(job)))
        loader.finish()
        until(lambda: progress.now().labels >= len(job), [learner])
        labelled = _bytes(data) / len(job)
    closed = _bytes(data) / len(job)
    progress.close()
    row: dict[str, object] = {
        "name": "horizon",
        "requests": len(job),
        "members": len(MEMBERS),
        "classes": len(CLASSES),
        "stored_bytes": round(stored),
        "labelled_bytes": round(labelled),
        "closed_bytes": round(closed),
        "day_gb": round(labelled * _DAY / 1e9, 1),
    }
    if options.keep_rows:
        keep("bounds", row)
    drop_topics(servers_.bootstrap, run.name)
    head = ["bytes a request, fused", "and labelled", "after the worker ended", "GB for 24 h at 1,000/s"]
    table(head, [[f"{each:,.0f}" for each in (stored, labelled, closed)] + [f"{row['day_gb']}"]])
    return 0


def _fuse(run: Run, settings: config.Settings, job: Job) -> None:
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    add(run.servers.bootstrap, job, topics.predictions)
    ends = Ends(run.servers.bootstrap, topics.fused)
    with worker(run, settings, "stream_ensemble.fuse") as fuse:
        patiently(ends.now)
        until(lambda: sum(ends.now()) >= len(job), [fuse])
        say(f"  {len(job):,} requests fused")
    ends.close()


def _start(run: Run, settings: config.Settings, number: int) -> Node:
    """A learner with a folder, and so a local store, of its own."""
    own = msgspec.structs.replace(settings, worker=config.Worker(data_dir=str(run.folder / f"data-{number}")))
    path = run.folder / f"learn-{number}.toml"
    path.write_text(dump(own))
    port = free_port()
    command = Command(faust("stream_ensemble.learn", port), {"STREAM_ENSEMBLE_CONFIG": str(path)})
    return command.start(run, f"learn-{number}"), port


@contextmanager
def _labels(servers_: Servers, feedback: str, job: Job) -> Iterator[None]:
    """Labels of stored requests, one after the other, at a steady rate."""
    done = threading.Event()
    loader = Loader(servers_.bootstrap, linger_ms=5)
    labels = labels_of(job)

    def publish() -> None:
        begin, some = 0, _LABELS_A_SECOND // 10
        while not done.wait(0.1) and begin < len(job):
            names = id_list(job.ids[begin : begin + some])
            loader.publish(feedback, names, label_values(names, labels[begin : begin + some]))
            begin += some
        loader.finish()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _end(run: Run, settings: config.Settings, node: Node, how: signal.Signals) -> float:
    """End a learner; the longest time in which one of its partitions committed no label."""
    process, port = node
    moved = partitions(port)
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    watcher = Consumer({"bootstrap.servers": run.servers.bootstrap, "group.id": f"{settings.app}-learn"})
    places = [TopicPartition(topics.feedback, p) for p in moved]
    moments: dict[int, list[float]] = {p: [] for p in moved}
    reached: dict[int, int] = {}
    signalled = time.monotonic() + 1
    ended = False
    while time.monotonic() < signalled + _AFTER_S:
        if not ended and time.monotonic() >= signalled:
            os.kill(process.pid, how)
            ended = True
        for found in watcher.committed(places, timeout=10):
            if found.offset > reached.get(found.partition, -1):
                reached[found.partition] = found.offset
                moments[found.partition].append(time.monotonic())
        time.sleep(_LOOK_S)
    watcher.close()
    say(f"  {how.name}: partitions {moved} moved")
    return max(longest_pause(times, signalled, signalled + _AFTER_S) for times in moments.values())


def _ends(servers_: Servers, topic: str) -> Sequence[int]:
    ends = Ends(servers_.bootstrap, topic)
    found = ends.now()
    ends.close()
    return found


def _bytes(folder: Path) -> int:
    """On disk, as blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
