"""stream_ensemble as a contestant: ``faust -A stream_ensemble.fuse worker`` with everything on: canonical
partitions, deadlines, ledger, fences, index of ended requests, credit, sources, weights from Redis, metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.contestants import Command, Contestant, Run, faust
from benchmarks.task import CLASSES, MEMBERS, WEIGHTS
from benchmarks.topics import create_topics
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.settings.write import value

_TOPICS = ("fused", "late", "feedback", "weights", "applied", "dead-letter")
_DEADLINE_MS = 60_000

Settings = Mapping[str, object]
_DEFAULTS: Settings = {}


def ours(
    name: str = "stream_ensemble",
    ensemble: Settings = _DEFAULTS,
    *,
    kafka: Settings = _DEFAULTS,
    uncounted: bool = False,
) -> Contestant:
    """Our worker, with further settings of its ``[ensembles.bench]`` and its ``[kafka]``."""

    def command(run: Run) -> Command:
        make_topics(run)
        return worker(run, free_port(), ensemble, kafka=kafka)

    return Contestant(name, command, uncounted=uncounted)


def transacting() -> Contestant:
    """Ours with its answers in transactions."""
    return ours("stream_ensemble_transactions", kafka={"delivery": "transactions"}, uncounted=True)


def make_topics(run: Run) -> None:
    """What a worker of this run writes to."""
    create_topics(run.servers.bootstrap, [f"{run.name}.{each}" for each in _TOPICS])


def worker(
    run: Run, port: int, ensemble: Settings = _DEFAULTS, number: int = 0, *, kafka: Settings = _DEFAULTS
) -> Command:
    """Worker ``number`` of a run whose topics are there, with its pages at ``port``."""
    folder = run.folder / f"worker-{number}"
    folder.mkdir()
    path = _write_settings(run, folder, ensemble, kafka)
    return Command(faust("stream_ensemble.fuse", port), {"STREAM_ENSEMBLE_CONFIG": str(path)})


def _write_settings(run: Run, folder: Path, ensemble: Settings, kafka: Settings) -> Path:
    topics = {each.replace("-", "_"): f"{run.name}.{each}" for each in _TOPICS}
    topics |= {"requests": "", "predictions": run.inputs[0].removesuffix(MEMBERS[0]) + "{member}"}
    bench = {
        "members": list(MEMBERS),
        "deadline_ms": _DEADLINE_MS,
        **ensemble,
        "task": {"classes": list(CLASSES)},
        "topics": topics,
        "learning": {"algorithm": "fixed", "weights": dict(zip(MEMBERS, WEIGHTS, strict=True))},
    }
    settings = {
        "app": run.name,
        "kafka": {"bootstrap_servers": [run.servers.bootstrap], **kafka},
        "redis": {"url": run.servers.redis},
        "worker": {"data_dir": str(folder / "data")},
        "ensembles": {"bench": bench},
    }
    path = folder / "ensemble.toml"
    path.write_text("".join(f"{name} = {value(table)}\n" for name, table in settings.items()))
    return path
