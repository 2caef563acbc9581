"""What credit costs a fuser: a worker under full load that leaves it out half of the time, by turns, while
its weights move as often as they may.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.contestants import input_names, new_run
from benchmarks.credit_phases import PHASE_S, with_credit
from benchmarks.job import Job, make_job
from benchmarks.label_log import ENSEMBLE, labels_of, make_topics, settings_of, worker
from benchmarks.load import load
from benchmarks.measure import Ends, RunError
from benchmarks.options import Options
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import Bar, bars, say, spread, table
from benchmarks.task import MEMBERS, PARTITIONS
from benchmarks.topics import drop_topics, patiently
from stream_ensemble import config
from stream_ensemble.core.learning.algorithm import Labelled
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.learning.contribution import Contribution, to_bytes
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.stores.contributions import Change, Key, Marker, Order
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys

_REQUESTS = 1_200_000
_ROUNDS = 3
_LOG = "bench"
_LIMIT_S = 120.0
#: After a switch, until what was on its way before has been put out.
_SETTLE_S = 0.1
#: Weights are adopted every 250 ms at most.
_MOVE_S = 0.2
#: A fence leaves one invisible record per partition and topic, which is no output yet.
_MARKERS = 4 * PARTITIONS
_LABELS = 500
_MOST = 0.03
_DRAWS = 4000


#: CPU microseconds a prediction in each turn, and whether it had credit.
_Turns = list[tuple[bool, float]]


def credit(options: Options) -> int:
    """Run it; returns the number of faults."""
    rounds: list[_Turns] = []
    faults = 0
    with servers() as servers_:
        job = make_job(options.requests or _REQUESTS)
        load(servers_.bootstrap, job, input_names(_LOG), say)
        for number in range(1, (options.rounds or _ROUNDS) + 1):
            try:
                found = _once(servers_, job, number)
            except RunError as error:
                say(f"  round {number}: FAILED: {error}")
                faults += 1
                continue
            rounds.append(found)
            if options.keep_rows:
                turns = [["on" if on else "off", round(cost, 3)] for on, cost in found]
                keep("credit", {"requests": len(job), "members": len(MEMBERS), "cpu_us_a_prediction": turns})
    if rounds:
        _report(rounds)
    return faults


def _once(servers_: Servers, job: Job, number: int) -> _Turns:
    """The turns of one worker."""
    run = new_run(servers_, "credit", number)
    settings = settings_of(run, run.name, predictions=_LOG)
    make_topics(settings)
    fused = config.topic_names(ENSEMBLE, settings.ensembles[ENSEMBLE]).fused
    ends = Ends(servers_.bootstrap, fused)
    patiently(ends.now)
    with _moving(settings, job), worker(run, settings, "benchmarks.credit_switch") as fuse:
        found = _phases(fuse, ends, len(job))
    ends.close()
    drop_topics(servers_.bootstrap, run.name)
    say(f"  round {number}: " + " ".join(f"{'on' if on else 'off'} {cost:.2f}" for on, cost in found))
    return found


def _phases(fuse: ChildProcess, ends: Ends, total: int) -> _Turns:
    found: _Turns = []
    deadline = time.monotonic() + _LIMIT_S
    while True:
        begin = (int(time.monotonic() / PHASE_S) + 1) * PHASE_S
        looks = [_look(fuse, ends, at) for at in (begin + _SETTLE_S, begin + PHASE_S - 0.01)]
        (done, cpu), (done_after, cpu_after) = looks
        if not fuse.running or time.monotonic() > deadline:
            raise RunError(f"the worker does not get on:\n{fuse.output(2048)}")
        if done_after >= total:
            return found[1:]
        if done_after > done > _MARKERS:
            found.append((with_credit(begin), (cpu_after - cpu) / ((done_after - done) * len(MEMBERS)) * 1e6))


def _look(fuse: ChildProcess, ends: Ends, at: float) -> tuple[int, float]:
    time.sleep(max(0.0, at - time.monotonic()))
    return sum(ends.now()), _cpu_s(fuse.pid)


def _cpu_s(pid: int) -> float:
    """CPU seconds of a process's threads so far, finer than the clock ticks of ``cpu_seconds``."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in stats) / 1e9


@contextmanager
def _moving(settings: config.Settings, job: Job) -> Iterator[None]:
    """Weights in Redis that a learner moves, until the end."""
    ended = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_move(settings, job, ended)))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def _move(settings: config.Settings, job: Job, ended: threading.Event) -> None:
    ensemble = settings.ensembles[ENSEMBLE]
    algorithm = make(ensemble.learning, ensemble.task, MEMBERS)
    store = RedisContributionStore(settings.redis, RedisKeys(settings.app, ENSEMBLE))
    part, labels, marked = Contribution(MEMBERS), np.array(labels_of(job)), None
    awake, scale = np.ones((_LABELS, len(MEMBERS)), np.bool_), np.ones(_LABELS)
    sequence = 0
    while not ended.is_set():
        rows = np.arange(sequence * _LABELS, (sequence + 1) * _LABELS) % len(job)
        labelled = Labelled(job.p(rows), awake, labels[rows], scale, float(part.n))
        algorithm.learn(part, algorithm.credit(part), labelled)
        part.n += _LABELS
        sequence += 1
        order = Order(0, 1, sequence)
        await store.publish(0, [Change(Key(ensemble.task.name), order, to_bytes(part))])
        await store.mark(0, Marker(order, complete=True), after=marked)
        marked = order
        await asyncio.sleep(_MOVE_S)
    await store.close()


def _report(rounds: Sequence[_Turns]) -> None:
    costs = {on: [cost for turns in rounds for own, cost in turns if own == on] for on in (True, False)}
    table(
        ["credit", "CPU us a prediction", "turns"],
        [
            [word, spread(costs[on], ".3f"), str(len(costs[on]))]
            for on, word in ((True, "on"), (False, "off"))
        ],
    )
    shares = np.array([share for turns in rounds for share in _shares(turns)])
    drawn = np.random.default_rng(0).choice(shares, (_DRAWS, len(shares)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.05, 0.95])
    say(f"\n{len(shares)} pairs of neighbours: with 90% the share is within {low:.3f} to {high:.3f}")
    if low <= _MOST < high:
        say("NOT JUDGED: that is too wide to tell")
    else:
        bars([Bar("credit's share of a fuser's cost", float(np.median(shares)), _MOST, most=True)])


def _shares(turns: _Turns) -> Iterator[float]:
    """Credit's share of the cost, from each two neighbouring turns: what else the machine does drifts."""
    place = 0
    while place + 1 < len(turns):
        (on, first), (also_on, second) = turns[place : place + 2]
        if on == also_on:
            place += 1
            continue
        place += 2
        yield 1 - (second / first if on else first / second)
