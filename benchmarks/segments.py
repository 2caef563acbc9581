"""What segments cost: so many of them live, each with a labelled request, through a worker of each app.

Measured: requests a second fused and labels a second learned while every request is of another segment, the
workers' memory, bytes of a segment in Redis (with what one partition learned of it, and with what all did),
and how long the learner takes to write all of it again after Redis was emptied; then what is left of a
segment that is cold, and how long all of them take to leave Redis and to come back.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import redis

from benchmarks.contestants import Command, Run, faust, new_run
from benchmarks.job import Job, make_job
from benchmarks.load import Loader
from benchmarks.measure import Ends, RunError, cpu_seconds, rss_mb
from benchmarks.options import Options
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import say, table
from benchmarks.task import CLASSES, MEMBERS, PARTITIONS
from benchmarks.topics import patiently
from stream_ensemble import config
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.core.learning.segment_mixture import SegmentMixture
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.kafka.admin import create_topics as create
from stream_ensemble.kafka.topology import wanted_topics
from stream_ensemble.settings_file import dump
from stream_ensemble.stores.contributions import Change, Key, Order
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys

_SEGMENTS = 100_000
_ALGORITHMS: tuple[Literal["bank", "ml_poly"], ...] = ("bank", "ml_poly")
_LIMIT_S = 600.0
_LOOK_S = 0.1
_ENSEMBLE = "bench"


def segments(options: Options) -> int:
    """Run it; returns the number of faults."""
    rows, faults = [], 0
    for algorithm in _ALGORITHMS:
        if options.only and algorithm not in options.only:
            continue
        with servers() as servers_:
            try:
                row = _measured(servers_, algorithm, options.requests or _SEGMENTS)
            except RunError as error:
                say(f"  FAILED: {error}")
                faults += 1
                continue
        rows.append(row)
        if options.keep_rows:
            keep("segments", row)
    if rows:
        table(list(rows[0]), [[_cell(value) for value in row.values()] for row in rows])
    return faults


def _cell(value: object) -> str:
    return (
        f"{value:,.0f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _measured(servers_: Servers, algorithm: Literal["bank", "ml_poly"], count: int) -> dict[str, object]:
    run = new_run(servers_, f"segments-{algorithm}", 0)
    settings = _settings(run, algorithm)
    asyncio.run(_make_topics(settings))
    client = redis.Redis.from_url(servers_.redis)
    job, topics = make_job(count), config.topic_names(_ENSEMBLE, settings.ensembles[_ENSEMBLE])
    with _worker(run, settings, "fuse") as fuse:
        _load_predictions(servers_, job, topics.predictions)
        fused = _until_counted(fuse, count, _ends(servers_, topics.fused))
        fuse_mb = rss_mb(fuse.pid)
    with _worker(run, settings, "learn") as learn:
        before = _used(client)
        _load_labels(servers_, job, topics.feedback)
        learned = _until_counted(learn, count, lambda: _hashes(client))
        live = (_used(client) - before) / count
        learn_mb = rss_mb(learn.pid)
        client.execute_command("FLUSHALL", "SYNC")
        again_s = _until_there(client, count)
    client.execute_command("FLUSHALL", "SYNC")
    return {
        "algorithm": algorithm,
        "segments": count,
        "fused_per_cpu_s": fused,
        "fuse_rss_mb": fuse_mb,
        "learned_per_cpu_s": learned,
        "learn_rss_mb": learn_mb,
        "bytes_one_partition": live,
        **asyncio.run(_all_partitions(settings, client, count)),
        "rewritten_after_flushall_s": again_s,
    }


def _settings(run: Run, algorithm: Literal["bank", "ml_poly"]) -> config.Settings:
    ensemble = config.Ensemble(
        members=list(MEMBERS),
        task=config.Task(classes=list(CLASSES)),
        partitions=PARTITIONS,
        deadline_ms=60_000,
        learning=config.Learning(algorithm=algorithm),
    )
    return config.Settings(
        app=run.name,
        kafka=config.Kafka(bootstrap_servers=[run.servers.bootstrap]),
        redis=config.Redis(url=run.servers.redis),
        worker=config.Worker(data_dir=str(run.folder / "data")),
        ensembles={_ENSEMBLE: ensemble},
    )


async def _make_topics(settings: config.Settings) -> None:
    async with admin_client(settings.kafka) as client:
        await create(client, wanted_topics(settings), settings.kafka)


@contextmanager
def _worker(run: Run, settings: config.Settings, app: str) -> Iterator[ChildProcess]:
    path: Path = run.folder / f"{app}.toml"
    path.write_text(dump(settings))
    command = Command(faust(f"stream_ensemble.{app}", free_port()), {"STREAM_ENSEMBLE_CONFIG": str(path)})
    process = command.start(run, app)
    try:
        yield process
    finally:
        process.stop(20.0)


def _load_predictions(servers_: Servers, job: Job, topics: tuple[str, ...]) -> None:
    """Every member's prediction of every request, each of a segment of its own."""
    loader, at = Loader(servers_.bootstrap), int(time.time() * 1000)
    keys = [bytes(row) for row in job.ids]
    for k, (member, topic) in enumerate(zip(MEMBERS, topics, strict=True)):
        head = {"version": 1, "kind": "prediction", "member": member, "at": at}
        outputs = job.p(np.arange(len(job)))[:, k].tolist()
        values = (
            json.dumps(
                head | {"request_id": key.decode(), "output": output, "segment": f"segment-{r}"}
            ).encode()
            for r, (key, output) in enumerate(zip(keys, outputs, strict=True))
        )
        loader.publish(topic, keys, values)
    loader.finish()


def _load_labels(servers_: Servers, job: Job, topic: str) -> None:
    loader = Loader(servers_.bootstrap)
    keys = [bytes(row) for row in job.ids]
    head: dict[str, Any] = {"version": 1, "kind": "feedback"}
    labels = job.parts[:, 0].argmax(axis=1).tolist()
    values = (
        json.dumps(head | {"request_id": key.decode(), "label": label}).encode()
        for key, label in zip(keys, labels, strict=True)
    )
    loader.publish(topic, keys, values)
    loader.finish()


def _ends(servers_: Servers, topic: str) -> Callable[[], int]:
    ends = Ends(servers_.bootstrap, topic)
    patiently(ends.now)
    return lambda: sum(ends.now())


def _until_counted(process: ChildProcess, count: int, counted: Callable[[], int]) -> float:
    """How many a CPU second, from the first to the last."""
    deadline, begin = time.monotonic() + _LIMIT_S, (0, 0.0)
    while (found := counted()) < count:
        if not process.running or time.monotonic() > deadline:
            raise RunError(f"{process.name}: {found:,} of {count:,}\n{process.output(2048)}")
        if found < count * 0.02:
            begin = found, cpu_seconds(process.pid)
        time.sleep(_LOOK_S)
    return (count - begin[0]) / (cpu_seconds(process.pid) - begin[1])


def _hashes(client: redis.Redis) -> int:
    """Segments in Redis: all hashes but the whole's and the markers'."""
    return int(client.dbsize()) - 2  # type: ignore[arg-type]


def _until_there(client: redis.Redis, count: int) -> float:
    began = time.monotonic()
    while _hashes(client) < count:
        if time.monotonic() - began > _LIMIT_S:
            raise RunError(f"after FLUSHALL {_hashes(client):,} of {count:,} came back")
        time.sleep(_LOOK_S)
    return time.monotonic() - began


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])  # type: ignore[index]


async def _all_partitions(settings: config.Settings, client: redis.Redis, count: int) -> dict[str, float]:
    """Bytes of a segment of which every partition has learned something, live and cold, and how long all of
    them take Redis to go and to come.
    """
    ensemble = settings.ensembles[_ENSEMBLE]
    mixture = SegmentMixture(make(ensemble.learning, ensemble.task, MEMBERS))
    part, rng = Contribution(MEMBERS), np.random.default_rng(0)
    for n in range(3):
        own = mixture.credit(mixture.merge([part]))
        outputs = rng.dirichlet(np.ones(len(CLASSES)), (1, len(MEMBERS)))
        labelled = Labelled(
            outputs, np.ones((1, len(MEMBERS)), np.bool_), np.array([n % 3]), np.ones(1), float(n)
        )
        mixture.learn(part, own[: mixture.width], own, labelled)
        part.n = n + 1
    store = RedisContributionStore(settings.redis, RedisKeys(settings.app, _ENSEMBLE))
    before, change = _used(client), partial(Change, order=Order(0, 1, 1), value=to_bytes(part), at=1)
    names = [Key("class", f"segment-{n}") for n in range(count)]
    chunks = [names[begin : begin + 500] for begin in range(0, count, 500)]

    async def write() -> None:
        for partition, keys in product(range(PARTITIONS), chunks):
            await store.publish(partition, [change(key) for key in keys])

    await write()
    live, began = (_used(client) - before) / count, time.monotonic()
    for keys in chunks:
        await store.cool(keys, 1)
    cooled_s, cold, began = time.monotonic() - began, (_used(client) - before) / count, time.monotonic()
    await write()
    back_s = time.monotonic() - began
    await store.close()
    return {
        "bytes_all_partitions": live,
        "bytes_cold": cold,
        "cooled_s": cooled_s,
        "brought_back_s": back_s,
    }
