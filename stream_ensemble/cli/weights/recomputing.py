"""``weights recompute``: learn everything again from the topics, and compare with what is live."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stream_ensemble.cli.weights.chosen import (
    add_ensemble_arguments,
    add_json_argument,
    chosen_ensemble,
    shown_key,
)
from stream_ensemble.cli.weights.live import contribution_store, log_reader
from stream_ensemble.cli.weights.printing import print_json
from stream_ensemble.config import Settings
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.learner.comparison import Difference, differences
from stream_ensemble.learner.cut import Cut, cut
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.replay import Replayed, replay
from stream_ensemble.stores.rocks_labels import RocksLabelStore


@dataclass(slots=True)
class _Report:
    """What came out, partition by partition."""

    cuts: list[Cut] = field(default_factory=list)
    replayed: list[Replayed] = field(default_factory=list)
    found: list[Difference] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Labels that stand in the weights of the whole task."""
        return sum(one.by_segment[None].n for one in self.replayed if None in one.by_segment)

    @property
    def redis_away(self) -> str | None:
        return next((one.redis_away for one in self.cuts if one.redis_away), None)


def add_action(actions: Any) -> None:
    """``recompute``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "recompute",
        help="learn everything again from the topics and compare with what is live",
        description="Reads the fused and feedback topics from their beginning, learns them again by the "
        "learner's own functions, and compares with the weights topic (to 1e-12 of the sum of |increments|) "
        "and with Redis (to the byte). Workers may go on meanwhile. Exit code 1, and the first number that "
        "differs, where one does.",
    )
    parser.add_argument(
        "--wait", type=float, default=10.0, metavar="SECONDS", help="how long to wait for Redis to follow"
    )
    add_ensemble_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(act=run)


def run(args: argparse.Namespace) -> int:
    """Recompute and say what differs."""
    settings, ensemble = chosen_ensemble(args)
    began = time.perf_counter()
    report = asyncio.run(_recompute(settings, ensemble, args.wait))
    seconds = time.perf_counter() - began
    wrong = bool(report.found) or report.redis_away is not None
    if args.json:
        print_json(_as_json(ensemble, report, seconds))
        return 1 if wrong else 0
    for line in _said(ensemble, report, seconds):
        print(line)
    return 1 if wrong else 0


async def _recompute(settings: Settings, ensemble: LearnedEnsemble, wait_s: float) -> _Report:
    report = _Report()
    names = ensemble.topics
    topics = (names.weights, names.fused, names.feedback)
    async with (
        log_reader(settings, ensemble, *topics) as reader,
        admin_client(settings.kafka) as admin,
        contribution_store(settings, ensemble) as store,
    ):
        for p in range(ensemble.config.partitions):
            live = await cut(ensemble, p, admin, reader, store, patience_s=wait_s)
            replayed = await _replayed(ensemble, p, live)
            report.cuts.append(live)
            report.replayed.append(replayed)
            report.found += differences(ensemble, p, live, replayed)
    return report


async def _replayed(ensemble: LearnedEnsemble, p: int, live: Cut) -> Replayed:
    with tempfile.TemporaryDirectory(prefix="stream-ensemble-") as folder:
        labels = RocksLabelStore(Path(folder) / "labels")
        try:
            return await replay(ensemble, p, labels, (live.fused, live.feedback))
        finally:
            labels.close()


def _said(ensemble: LearnedEnsemble, report: _Report, seconds: float) -> Iterator[str]:
    read = sum(one.fused + one.feedback for one in report.cuts)
    yield (
        f"{ensemble.name}: {report.n} labels learned again from {read} offsets of {len(report.cuts)} "
        f"partitions in {seconds:.1f} s"
    )
    if report.found:
        first = report.found[0]
        yield (
            f"DIFFERENT: {first.where}, key {shown_key(first.key)}, partition {first.partition}: "
            f"{first.what} is {first.live}, expected {first.expected}"
        )
        yield f"{len(report.found)} numbers differ in all; --json lists them"
    if report.redis_away:
        yield f"Redis could not be compared: {report.redis_away}"
    if not report.found and not report.redis_away:
        yield "the weights topic and Redis hold just that"


def _as_json(ensemble: LearnedEnsemble, report: _Report, seconds: float) -> dict[str, Any]:
    return {
        "ensemble": ensemble.name,
        "same": not report.found and report.redis_away is None,
        "n": report.n,
        "generation": max((one.generation for one in report.replayed), default=0),
        "partitions": [
            {
                "fused_until": live.fused,
                "feedback_until": live.feedback,
                "labels": dict(sorted(replayed.counts.items())),
            }
            for live, replayed in zip(report.cuts, report.replayed, strict=True)
        ],
        "redis_away": report.redis_away,
        "differences": [
            {**difference._asdict(), "key": shown_key(difference.key)} for difference in report.found
        ],
        "seconds": round(seconds, 3),
    }
