"""Who is measured: how each is started and what it must be told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import CLASSES, INPUTS, MEMBERS, WEIGHTS, create_topics
from stream_ensemble.embedded.ports import free_port

_SETTINGS = """\
app = "{run}"
[kafka]
bootstrap_servers = ["{bootstrap}"]
[redis]
url = "{redis}"
[worker]
data_dir = "{folder}"
[ensembles.bench]
members = {members}
deadline_ms = 60000
[ensembles.bench.task]
classes = {classes}
[ensembles.bench.topics]
requests = ""
fused = "{run}.fused"
late = "{run}.late"
feedback = "{run}.feedback"
weights = "{run}.weights"
applied = "{run}.applied"
dead_letter = "{run}.dead-letter"
[ensembles.bench.learning]
algorithm = "fixed"
weights = {weights}
"""


@dataclass(frozen=True, slots=True)
class Started:
    """A contestant ready to be started once: its output topics exist."""

    command: Sequence[str]
    environment: Mapping[str, str]
    output: str


def ours(run: str, bootstrap: str, redis: str, folder: Path) -> Started:
    """``faust -A stream_ensemble.fuse worker`` with everything on: index, fences, deadlines, ledger, credit,
    commits, metrics.
    """
    settings = folder / "ensemble.toml"
    weights = "{" + ", ".join(f"{m} = {w}" for m, w in zip(MEMBERS, WEIGHTS, strict=True)) + "}"
    settings.write_text(
        _SETTINGS.format(
            run=run,
            bootstrap=bootstrap,
            redis=redis,
            folder=folder / "data",
            members=list(MEMBERS),
            classes=list(CLASSES),
            weights=weights,
        )
    )
    names = ("fused", "late", "feedback", "weights", "applied", "dead-letter")
    create_topics(bootstrap, tuple(f"{run}.{name}" for name in names))
    command = [*_faust("stream_ensemble.fuse"), "--web-port", str(free_port())]
    environment = {**os.environ, "STREAM_ENSEMBLE_CONFIG": str(settings)}
    return Started(command, environment, f"{run}.fused")


def plain_agent(run: str, bootstrap: str, redis: str, folder: Path) -> Started:
    """The peer of the first bar: see ``peers/plain_agent.py``."""
    create_topics(bootstrap, (f"{run}.fused",))
    environment = {
        **os.environ,
        "BENCH_GROUP": run,
        "BENCH_BOOTSTRAP": bootstrap,
        "BENCH_OUTPUT": f"{run}.fused",
        "BENCH_DATADIR": str(folder / "data"),
    }
    command = [*_faust("benchmarks.peers.plain_agent"), "--web-port", str(free_port())]
    return Started(command, environment, f"{run}.fused")


def _faust(module: str) -> list[str]:
    return [sys.executable, "-m", "faust", "-A", module, "worker", "-l", "warn"]


CONTESTANTS = {"stream_ensemble": ours, "plain_agent": plain_agent}
#: Topics that all read.
SHARED = INPUTS
