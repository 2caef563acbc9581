"""The ensembles that schedules run with: small, with every way of deciding in one of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from msgspec.structs import replace

from stream_ensemble import config
from stream_ensemble.fuser.ensemble import FusedEnsemble, fused_ensemble
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble

NAME = "sim"
APP = "sim"
MEMBERS = ("a", "b", "c")
CLASSES = ("x", "y", "z")
PARTITIONS = 2
DEADLINE_MS = 500
#: Longer than any outage of a schedule, so that nothing is late but what is made so.
LATENESS_S = 30.0
ORPHAN_S = 60.0
LABEL_S = 90.0
HOLD_LIMIT_S = 0.8
COLD_S = 1.5
#: The pause between two tries of an answer that its topic does not take.
TOO_LARGE_S = 0.5

_VARIANTS = (
    {"quorum": 1},
    {"quorum": 2, "prior": [0.5, 0.25, 0.25]},
    {"quorum": 2, "early_decision": True},
    {"quorum": 1, "required": ["a"], "max_open_requests": 24},
    {"quorum": 1, "fused_records": "columnar"},
    {"quorum": 2, "max_open_requests": 16, "early_decision": True},
    {"quorum": 1, "topics": config.Topics(predictions="{ensemble}.predictions")},
    {"quorum": 2, "fused_records": "columnar", "prior": [0.2, 0.3, 0.5], "early_decision": True},
)
VARIANTS = len(_VARIANTS)


@cache
def settings(variant: int) -> config.Settings:
    """Settings number ``variant``."""
    ensemble = {
        "max_open_requests": 10_000,
        "learning": config.Learning(
            # Bank is what most use, and takes twice the time.
            algorithm="bank" if variant == 0 else "ml_poly",
            half_life=None if variant % 2 else 500.0,
            flush_interval_ms=500,
            orphan_horizon_s=ORPHAN_S,
            label_horizon_s=LABEL_S,
            # The hosts' clocks are minutes apart: some segments go cold at once and come back, some never do.
            cold_segment_s=COLD_S if variant % 3 else 0.0,
        ),
    } | _VARIANTS[variant]
    return config.Settings(
        app=APP,
        kafka=config.Kafka(max_batch_bytes=6000, rebalance_timeout_s=2.0),
        ensembles={
            NAME: config.Ensemble(
                members=list(MEMBERS),
                task=config.Task(classes=list(CLASSES)),
                partitions=PARTITIONS,
                deadline_ms=DEADLINE_MS,
                silence_after_ms=1500,
                lateness_horizon_s=LATENESS_S,
                hold_limit_s=HOLD_LIMIT_S,
                **ensemble,
            )
        },
    )


@cache
def transacted(variant: int) -> config.Settings:
    """The same with answers in transactions."""
    plain = settings(variant)
    kafka = replace(plain.kafka, delivery="transactions", transaction_interval_ms=150)
    return replace(plain, kafka=kafka)


@cache
def fused(variant: int) -> FusedEnsemble:
    """The ensemble as a fuser sees it; its weights are put in by each process."""
    return fused_ensemble(settings(variant), NAME, None)  # type: ignore[arg-type]


@cache
def learned(variant: int) -> LearnedEnsemble:
    """The ensemble as a learner sees it; options and folder are put in by each process."""
    return learned_ensemble(settings(variant), NAME, group_id=f"{APP}-learn", data_dir=Path())


@cache
def topics(variant: int) -> config.TopicNames:
    """The names of its topics."""
    return config.topic_names(NAME, settings(variant).ensembles[NAME])
