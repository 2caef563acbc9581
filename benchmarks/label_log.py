"""A fused topic and its labels as a live ensemble leaves them: fused by a worker while a learner moves the
weights, labels behind the requests they are about.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.contestants import Command, Run, faust, new_run
from benchmarks.job import Job
from benchmarks.load import Loader
from benchmarks.measure import Ends, RunError
from benchmarks.servers import Servers
from benchmarks.task import CLASSES, MEMBERS, PARTITIONS
from benchmarks.topics import patiently
from benchmarks.values import id_list, json_values
from stream_ensemble import config
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.kafka.admin import create_topics as create
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.settings_file import dump

ENSEMBLE = "bench"
_SLICE = 20_000
#: How many slices of requests are fused between one of them and its labels: as in life they come later.
_DELAY = 4
_LIMIT_S = 120.0
_LOOK_S = 0.05
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Taken:
    """How many fused records and labels a learner has taken in and committed."""

    fused: int
    labels: int

    def all_of(self, count: int) -> bool:
        """So many of both?"""
        return min(self.fused, self.labels) >= count


def settings_of(run: Run, log: str, predictions: str | None = None) -> config.Settings:
    """An app of its own, with topics of its own for what it learns, over the requests and labels ``log``.

    Args:
        predictions: begins the names of their topics, where it is not ``log``.
    """
    own = {each: f"{run.name}.{each}" for each in ("weights", "applied")}
    read = {each: f"{log}.{each}" for each in ("fused", "late", "feedback")}
    ensemble = config.Ensemble(
        members=list(MEMBERS),
        task=config.Task(classes=list(CLASSES)),
        partitions=PARTITIONS,
        deadline_ms=60_000,
        topics=config.Topics(
            predictions=f"{predictions or log}.predictions.{{member}}",
            requests="",
            dead_letter=f"{run.name}.dead-letter",
            **own,
            **read,
        ),
        learning=config.Learning(algorithm="bank"),
    )
    return config.Settings(
        app=run.name,
        kafka=config.Kafka(bootstrap_servers=[run.servers.bootstrap]),
        redis=config.Redis(url=run.servers.redis),
        worker=config.Worker(data_dir=str(run.folder / "data")),
        ensembles={ENSEMBLE: ensemble},
    )


def make_topics(settings: config.Settings) -> None:
    """What is not there yet of the topics of these settings."""

    async def made() -> None:
        async with admin_client(settings.kafka) as client:
            await create(client, wanted_topics(settings), settings.kafka)

    asyncio.run(made())


@contextmanager
def worker(run: Run, settings: config.Settings, module: str, number: int = 0) -> Iterator[ChildProcess]:
    """A running Faust worker of ``module``, ended at the end."""
    name = f"{module}-{number}"
    path = run.folder / f"{name}.toml"
    path.write_text(dump(settings))
    process = Command(faust(module, free_port()), {"STREAM_ENSEMBLE_CONFIG": str(path)}).start(run, name)
    try:
        yield process
    finally:
        process.stop(_STOP_S)


class Progress:
    """Looks at what a learner's group has committed, all partitions together."""

    def __init__(self, bootstrap: str, settings: config.Settings) -> None:
        topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"{settings.app}-learn"})
        self._inputs = [
            TopicPartition(t, p) for t in (topics.fused, topics.feedback) for p in range(PARTITIONS)
        ]
        self._feedback = topics.feedback

    def now(self) -> Taken:
        """So far."""
        found = self._consumer.committed(self._inputs, timeout=10)
        done = {True: 0, False: 0}
        for tp in found:
            done[tp.topic == self._feedback] += max(0, tp.offset)
        return Taken(fused=done[False], labels=done[True])

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


def labels_of(job: Job) -> list[int]:
    """The true classes: drawn from the mean of the first two members, who know best."""
    p = job.p(np.arange(len(job)))[:, :2].mean(axis=1)
    drawn = np.random.default_rng(5).random(len(job))
    classes: list[int] = (p.cumsum(axis=1) < drawn[:, None]).sum(axis=1).clip(0, len(CLASSES) - 1).tolist()
    return classes


def label_values(ids: list[bytes], labels: list[int]) -> list[bytes]:
    """N labels as records."""
    head = b'{"version":1,"kind":"feedback","request_id":"%b","label":%d}'
    return [head % pair for pair in zip(ids, labels, strict=True)]


def make_log(servers_: Servers, job: Job, log: str, say: Callable[[str], None]) -> config.Settings:
    """Fill ``log``'s fused and feedback topics; returns the settings of the app that did."""
    run = new_run(servers_, "label-log", 0)
    settings = settings_of(run, log)
    make_topics(settings)
    topics = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE])
    began = time.monotonic()
    labels = labels_of(job)
    loader, progress = Loader(servers_.bootstrap), Progress(servers_.bootstrap, settings)
    ends = Ends(servers_.bootstrap, topics.fused)
    with (
        worker(run, settings, "stream_ensemble.fuse") as fuse,
        worker(run, settings, "stream_ensemble.learn") as learn,
    ):
        patiently(ends.now)
        begins = range(0, len(job), _SLICE)
        for number in range(len(begins) + _DELAY):
            if number < len(begins):
                _predict(loader, job, begins[number], topics.predictions)
                fused = min(len(job), begins[number] + _SLICE)
                _until(lambda: sum(ends.now()) >= fused, fuse)  # noqa: B023 - called before it changes
            if number >= _DELAY:
                rows = slice(begins[number - _DELAY], begins[number - _DELAY] + _SLICE)
                names = id_list(job.ids[rows])
                loader.publish(topics.feedback, names, label_values(names, labels[rows]))
                loader.finish()
        _until(lambda: progress.now().all_of(len(job)), learn)
    progress.close()
    ends.close()
    say(f"{len(job):,} requests fused and labelled in {time.monotonic() - began:.0f} s")
    return settings


def _predict(loader: Loader, job: Job, begin: int, topics: Sequence[str]) -> None:
    """Every member's prediction of a slice of the requests."""
    ids, parts = job.ids[begin : begin + _SLICE], job.parts[begin : begin + _SLICE]
    names, at = id_list(ids), int(time.time() * 1000)
    for k, (member, topic) in enumerate(zip(MEMBERS, topics, strict=True)):
        loader.publish(topic, names, json_values(ids, member, parts[:, k], at))
    loader.finish()


def _until(done: Callable[[], bool], process: ChildProcess) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not done():
        if not process.running or time.monotonic() > deadline:
            raise RunError(f"{process.name} does not get on:\n{process.output(2048)}")
        time.sleep(_LOOK_S)
