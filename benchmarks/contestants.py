"""Who is measured: how each is started and what it must be told."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import Servers
from benchmarks.task import MEMBERS
from benchmarks.topics import create_topics
from stream_ensemble.embedded.process import ChildProcess

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"


class MissingToolError(Exception):
    """A contestant cannot run here; one line that says what to install."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a contestant: its input topics, its output topic, a folder of its own."""

    name: str
    servers: Servers
    inputs: tuple[str, ...]
    output: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Command:
    """What starts one process of a contestant."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str]

    def start(self, run: Run, name: str = "worker") -> ChildProcess:
        """Start it; what it says stands in the file ``name`` of the run's folder."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self.environment}
        return ChildProcess(run.name, list(self.argv), run.folder / name, env=environment)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Someone who does the job.

    Attributes:
        command: makes the topics of a run and says how to start it.
        prepare: gets ready what it needs; raises ``MissingToolError``.
        warm_s: seconds of output before its window opens.
        longest_s: its window is not longer.
        uncounted: the ends of its output do not count its answers: a record has many, or markers stand
            between them.
        versions: of what it rests on.
    """

    name: str
    command: Callable[[Run], Command]
    prepare: Callable[[], None] = lambda: None
    warm_s: float = 2.0
    longest_s: float = float("inf")
    uncounted: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)


def new_run(servers: Servers, name: str, number: int, inputs: Sequence[str] | None = None) -> Run:
    """A run whose output topic nobody else has; without ``inputs``, its input topics neither."""
    run = f"{name.replace('_', '-')}-{number}-{int(time.time())}"
    folder = servers.folder / run
    folder.mkdir()
    return Run(run, servers, tuple(inputs or input_names(run)), f"{run}.fused", folder)


def input_names(prefix: str) -> tuple[str, ...]:
    """The topics of the members' predictions, in the order of ``MEMBERS``."""
    return tuple(f"{prefix}.predictions.{member}" for member in MEMBERS)


def peer_environment(run: Run, linger_ms: int = 5) -> dict[str, str]:
    """What ``peers/given.py`` reads, and the peers in other languages."""
    return {
        "BENCH_LINGER_MS": str(linger_ms),
        "BENCH_BOOTSTRAP": run.servers.bootstrap,
        "BENCH_GROUP": run.name,
        "BENCH_INPUTS": ",".join(run.inputs),
        "BENCH_OUTPUT": run.output,
        "BENCH_FOLDER": str(run.folder),
    }


def python_peer(module: str, python: str | Path = sys.executable) -> Callable[[Run], Command]:
    """A module of ``benchmarks.peers`` that is run as a program."""

    def command(run: Run) -> Command:
        create_topics(run.servers.bootstrap, (run.output,))
        return Command([python, "-m", f"benchmarks.peers.{module}"], peer_environment(run))

    return command


def faust(module: str, port: int) -> list[str]:
    """The command line of a Faust worker."""
    return [sys.executable, "-m", "faust", "-A", module, "worker", "-l", "warn", "--web-port", str(port)]
