"""Everything the learn app knows of one ensemble: made once from the settings, shared by its partitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from aiokafka.structs import TopicPartition

from stream_ensemble.config import Ensemble, Kafka, Settings, TopicNames, everyone, topic_names
from stream_ensemble.core.labels.charging import AlgorithmOver
from stream_ensemble.core.labels.rules import Rules
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.kafka.security import client_options


@dataclass(frozen=True, slots=True)
class LearnedEnsemble:
    """One ensemble as the learn app sees it."""

    name: str
    config: Ensemble
    topics: TopicNames
    rules: Rules
    algorithm: Additive[Any]
    algorithm_over: AlgorithmOver
    group_id: str
    transactional_prefix: str
    data_dir: Path
    kafka: Kafka
    options: dict[str, Any]

    @property
    def task(self) -> str:
        """Name of the task the labels are about."""
        return self.config.task.name

    def transactional_id(self, partition: int) -> str:
        """The id under which partition p's transactions run."""
        return f"{self.transactional_prefix}-{partition}"

    def fused(self, partition: int) -> TopicPartition:
        """Partition p of the fused topic."""
        return TopicPartition(self.topics.fused, partition)

    def feedback(self, partition: int) -> TopicPartition:
        """Partition p of the feedback topic."""
        return TopicPartition(self.topics.feedback, partition)

    def weights(self, partition: int) -> TopicPartition:
        """Partition p of the weights topic."""
        return TopicPartition(self.topics.weights, partition)

    def applied(self, partition: int) -> TopicPartition:
        """Partition p of the applied topic."""
        return TopicPartition(self.topics.applied, partition)

    def inputs_of(self, partition: int) -> list[TopicPartition]:
        """What partition p is made of: its fused records and its labels."""
        return [self.fused(partition), self.feedback(partition)]

    def store_directory(self, partition: int) -> Path:
        """Where partition p's local store lives."""
        return self.data_dir / self.name / str(partition)


def learned_ensemble(settings: Settings, name: str, *, group_id: str, data_dir: Path) -> LearnedEnsemble:
    """Put ensemble ``name`` of the settings together.

    Args:
        group_id: the consumer group of the learn app.
        data_dir: where the learn app may keep files.
    """
    config = settings.ensembles[name]
    learning, task = config.learning, config.task
    return LearnedEnsemble(
        name=name,
        config=config,
        topics=topic_names(name, config),
        rules=Rules(
            domain=domain_of(task),
            label_horizon_ms=round(learning.label_horizon_s * 1000),
            orphan_horizon_ms=round(learning.orphan_horizon_s * 1000),
        ),
        algorithm=make(learning, task, everyone(config)),
        algorithm_over=lru_cache(64)(partial(make, learning, task)),
        group_id=group_id,
        transactional_prefix=f"{settings.app}-learn-{name}",
        data_dir=data_dir,
        kafka=settings.kafka,
        options=client_options(settings.kafka),
    )
