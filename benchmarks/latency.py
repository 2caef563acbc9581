"""How long after its last needed prediction an answer can be read, at paced rates, and what that costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks import paced
from benchmarks.contestants import Contestant, Run, new_run
from benchmarks.job import ID_BYTES, make_job, numbers_of
from benchmarks.listening import Heard
from benchmarks.measure import RunError
from benchmarks.options import Options
from benchmarks.ours import ours, transacting
from benchmarks.paced import Phase
from benchmarks.paced_run import Cores, paced_run
from benchmarks.peers.kafka_streams import kafka_streams
from benchmarks.race import ready
from benchmarks.rows import keep
from benchmarks.servers import Servers, servers
from benchmarks.tables import Bar, bars, say, spread, table
from benchmarks.throughput import plain_agent
from benchmarks.topics import drop_topics
from benchmarks.verify import read_back, verify

_ROUNDS = 1
_SECONDS = 20.0
#: Not counted: at the first rate, and where the rate changes.
_WARM_S, _SETTLE_S = 12.0, 3.0
_OURS, _STREAMS, _PLAIN = "stream_ensemble", "streams_processor", "plain_agent"
#: Predictions a second; the plain agent cannot hold more.
_PLAIN_HOLDS = 5_000
_BAR_RATE = 5_000
_LEAST_MS = {"p50_ms": 8.0, "p99_ms": 25.0}

Found = dict[tuple[str, int], list["Measured"]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One contestant at one rate.

    Attributes:
        p50_ms, p99_ms: from the append of the last needed prediction to when the answer was readable.
        reading_p50_ms, reading_p99_ms: the part of it after the answer's append, a consumer's and ours.
        unanswered: of ``requests``, three seconds after the last rate's end.
    """

    p50_ms: float
    p99_ms: float
    reading_p50_ms: float
    reading_p99_ms: float
    worker_cores: float
    broker_cores: float
    requests: int
    unanswered: int


def latency(options: Options) -> int:
    """Run it; returns the number of faults."""
    contestants = [
        ours(),
        transacting(),
        kafka_streams(_STREAMS, "processor", "latency"),
        plain_agent(linger_ms=0),
    ]
    chosen = ready(options.chosen(contestants))
    found: Found = {}
    faults = 0
    with servers() as servers_:
        _warm_broker(servers_, options.rates[0])
        for number in range(1, (options.rounds or _ROUNDS) + 1):
            for contestant in chosen:
                try:
                    faults += _once(servers_, contestant, number, options, found)
                except RunError as error:
                    say(f"  round {number}, {contestant.name}: FAILED: {error}")
                    faults += 1
    _report(found)
    return faults


def _warm_broker(servers_: Servers, rate: int) -> None:
    """The broker is a JVM too: without this the first contestant would wait for its compiler."""
    run = new_run(servers_, "warming", 0)
    paced_run(run, ours(), [Phase(rate, 0.0, _WARM_S, _WARM_S + 1)])
    drop_topics(servers_.bootstrap, run.name)


def _once(servers_: Servers, contestant: Contestant, number: int, options: Options, found: Found) -> int:
    """One run of one contestant through its rates, the highest first; returns the faults in its output."""
    rates = [rate for rate in options.rates if contestant.name != _PLAIN or rate <= _PLAIN_HOLDS]
    phases = _phases(rates, options.seconds or _SECONDS)
    asked = paced.asked_at(phases)
    job = make_job(len(asked))
    run = new_run(servers_, contestant.name, number)
    gave = paced_run(run, contestant, phases)
    needed = _last_needed(run, len(job))
    for phase, cores in zip(phases, gave.cores, strict=True):
        counted = (asked >= phase.counted) & (asked < phase.end)
        measured = _measured(counted, needed, gave.heard, cores)
        found.setdefault((contestant.name, phase.rate), []).append(measured)
        if options.keep_rows:
            row = {"name": contestant.name, "rate": phase.rate, "seconds": phase.end - phase.counted}
            keep("latency", {**row, **asdict(measured), "published_late_ms": round(gave.late_s * 1000, 2)})
    checked = verify(run, job, complete=False)
    say(
        f"  round {number}, {contestant.name}: {checked.distinct:,} of {len(job):,} answered, "
        f"{checked.faults} faults; published up to {gave.late_s * 1000:.1f} ms late"
    )
    drop_topics(servers_.bootstrap, run.name)
    return checked.faults


def _phases(rates: Sequence[int], seconds: float) -> list[Phase]:
    phases: list[Phase] = []
    for rate in rates:
        begin = phases[-1].end if phases else 0.0
        counted = begin + (_SETTLE_S if phases else _WARM_S)
        phases.append(Phase(rate, begin, counted, counted + seconds))
    return phases


def _last_needed(run: Run, count: int) -> NDArray[np.float64]:
    """When the last prediction of each request was appended, in seconds. Shape: R."""
    appended = np.zeros(count)
    for topic in run.inputs:
        for _, messages in read_back(run.servers.bootstrap, topic):
            ids = np.frombuffer(b"".join(message.key() for message in messages), np.uint8)
            numbers = numbers_of(ids.reshape(len(messages), ID_BYTES))
            times = np.array([message.timestamp()[1] for message in messages]) / 1000
            np.maximum.at(appended, numbers, times)
    return appended


def _measured(
    counted: NDArray[np.bool_], needed: NDArray[np.float64], heard: Heard, cores: Cores
) -> Measured:
    own = counted[heard.requests]
    waited = (heard.readable[own] - needed[heard.requests[own]]) * 1000
    reading = (heard.readable[own] - heard.appended[own]) * 1000
    if not len(waited):
        raise RunError("not one answer came at this rate")
    answered = len(np.unique(heard.requests[own]))
    p50, p99, reading_p50, reading_p99 = np.round(
        [*np.quantile(waited, [0.5, 0.99]), *np.quantile(reading, [0.5, 0.99])], 2
    ).tolist()
    return Measured(
        p50,
        p99,
        reading_p50,
        reading_p99,
        round(cores.worker, 3),
        round(cores.broker, 3),
        int(counted.sum()),
        int(counted.sum()) - answered,
    )


def _report(found: Mapping[tuple[str, int], Sequence[Measured]]) -> None:
    rows = []
    for (name, rate), runs in sorted(found.items(), key=lambda item: (-item[0][1], item[0][0])):
        figures = [
            spread([getattr(run, each) for run in runs], ".1f")
            for each in ("p50_ms", "p99_ms", "reading_p50_ms", "reading_p99_ms")
        ]
        cores = [
            f"{statistics.median(getattr(run, each) for run in runs):.2f}"
            for each in ("worker_cores", "broker_cores")
        ]
        rows.append([f"{rate:,}", name, *figures, *cores, f"{sum(run.unanswered for run in runs):,}"])
    head = ["predictions/s", "worker", "p50, ms", "p99, ms", "of it reading, p50", "p99"]
    table([*head, "worker, cores", "broker, cores", "unanswered"], rows)
    bars(_bars(found))


def _bars(found: Mapping[tuple[str, int], Sequence[Measured]]) -> list[Bar]:
    def median(name: str, what: str) -> float:
        values: list[float] = [getattr(run, what) for run in found[name, _BAR_RATE]]
        return statistics.median(values)

    promised = []
    for what, limit in _LEAST_MS.items():
        if (_OURS, _BAR_RATE) in found:
            promised.append(Bar(f"{what} at {_BAR_RATE:,}/s", median(_OURS, what), limit, most=True))
        if {(_OURS, _BAR_RATE), (_STREAMS, _BAR_RATE)} <= found.keys():
            ratio = median(_OURS, what) / median(_STREAMS, what)
            promised.append(Bar(f"{what}, share of Kafka Streams'", ratio, 1.0, most=True))
    return promised
