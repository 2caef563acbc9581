"""How much a worker does with a CPU second, single JSON records in and out, beside what one would pick
instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.contestants import Command, Contestant, Run, faust, input_names, peer_environment, python_peer
from benchmarks.job import make_job
from benchmarks.load import load
from benchmarks.options import Options
from benchmarks.ours import ours, transacting
from benchmarks.peers import python_packages
from benchmarks.peers.kafka_streams import kafka_streams
from benchmarks.peers.rust_program import rust
from benchmarks.race import CELLS, Course, Results, quotable, race, ready
from benchmarks.servers import servers
from benchmarks.tables import Bar, bars, say, table
from benchmarks.topics import create_topics
from stream_ensemble.embedded.ports import free_port

_REQUESTS = 800_000
_ROUNDS = 5
_SECONDS = 8.0
#: Longest window of the peers that are furthest from ours: more would only take time.
_SLOW_S = 5.0
_OURS = "stream_ensemble"
#: Predictions per CPU second.
_LEAST = 300_000
#: Ours to a peer's, at least.
_RATIOS = {
    "plain_agent": 40.0,
    "aiokafka": 1.5,
    "confluent": 1.5,
    "streams_processor": 3.5,
    "streams_dsl": 12.0,
    "rust": 0.55,
}


def plain_agent(linger_ms: int = 5) -> Contestant:
    """A Faust agent as Faust's guide would write it."""

    def command(run: Run) -> Command:
        create_topics(run.servers.bootstrap, (run.output,))
        return Command(faust("benchmarks.peers.plain_agent", free_port()), peer_environment(run, linger_ms))

    return Contestant("plain_agent", command, longest_s=_SLOW_S)


def contestants() -> list[Contestant]:
    """Ours and every peer, in the order of the table."""
    return [
        ours(),
        transacting(),
        plain_agent(),
        Contestant("aiokafka", python_peer("aiokafka_loop")),
        Contestant("confluent", python_peer("confluent_loop")),
        _packaged("quix", "quixstreams", longest_s=_SLOW_S),
        _packaged("bytewax_join", "bytewax", longest_s=_SLOW_S),
        _packaged("bytewax_partitioned", "bytewax", longest_s=_SLOW_S),
        kafka_streams("streams_processor", "processor"),
        kafka_streams("streams_processor_unlogged", "processor-unlogged", longest_s=_SLOW_S),
        kafka_streams("streams_dsl", "dsl", longest_s=_SLOW_S),
        rust("rust"),
    ]


def _packaged(name: str, package: str, longest_s: float = float("inf")) -> Contestant:
    """The Python peer in the module ``name``, in the environment of ``python_packages``."""
    return Contestant(
        name,
        python_peer(name, python_packages.python()),
        prepare=python_packages.install,
        longest_s=longest_s,
        versions=python_packages.versions(package, "confluent-kafka"),
    )


def throughput(options: Options) -> int:
    """Run it; returns the number of faults."""
    chosen = ready(options.chosen(contestants()))
    with servers() as servers_:
        job = make_job(options.requests or _REQUESTS)
        inputs = input_names("bench")
        load(servers_.bootstrap, job, inputs, say)
        what = "throughput" if options.keep_rows else ""
        course = Course(what, servers_, job, inputs, options.seconds or _SECONDS)
        results, faults = race(course, chosen, options.rounds or _ROUNDS)
    _report(results)
    return faults


def _report(results: Mapping[str, Results]) -> None:
    """Print table and bars."""
    own = results.get(_OURS)
    rows = []
    for name, found in results.items():
        ratio = f"{own.median / found.median:.2f}" if own else ""
        rows.append([name, *found.cells(), ratio])
    table(["worker", *CELLS, "ours to it"], rows)
    if own and quotable(seconds for found in results.values() for seconds in found.window_s):
        promised = [Bar("predictions per CPU second", own.median, _LEAST)]
        promised += [
            Bar(f"times {name}", own.median / results[name].median, limit)
            for name, limit in _RATIOS.items()
            if name in results
        ]
        bars(promised)
