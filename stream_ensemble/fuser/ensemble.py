"""Everything the fuse app knows of one ensemble: made once from the settings, shared by its partitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiokafka.structs import TopicPartition
from faust.types import TP
from numpy.typing import NDArray

from stream_ensemble.config import (
    Ensemble,
    Settings,
    decision_digest,
    everyone,
    silence_after_ms,
    topic_names,
)
from stream_ensemble.core.join.state import JoinRules
from stream_ensemble.core.learning.additive import Additive
from stream_ensemble.core.learning.choose import make
from stream_ensemble.core.tasks.choose import domain_of
from stream_ensemble.core.tasks.domain import Domain
from stream_ensemble.fuser.fusion import Fusion, Weights
from stream_ensemble.fuser.partition import FuserPartition, Outlets
from stream_ensemble.kafka.decode_predictions import PredictionReader
from stream_ensemble.kafka.decode_requests import RequestReader
from stream_ensemble.kafka.encode import FusedFormat
from stream_ensemble.kafka.encode_columns import columnar
from stream_ensemble.kafka.encode_fast import single
from stream_ensemble.kafka.fenced_producer import PartitionProducer


@dataclass(frozen=True, slots=True)
class FusedEnsemble:
    """One ensemble as the fuse app sees it.

    ``inputs[t]`` is input topic t; the requests topic, if any, is the last.
    """

    name: str
    config: Ensemble
    inputs: tuple[str, ...]
    topic_of: tuple[int, ...]
    requests: int | None
    fused: str
    late: str
    dead_letter: str
    feedback: str
    readers: tuple[PredictionReader, RequestReader]
    domain: Domain
    algorithm: Additive[Any]
    weights: Weights
    prior: NDArray[np.float64] | None
    transactional_prefix: str

    @property
    def lateness_horizon_ms(self) -> int:
        """How long after its request was made a prediction may still open it."""
        return int(self.config.lateness_horizon_s * 1000)

    def transactional_id(self, partition: int) -> str:
        """The id under which partition p of the fused and late topics is fenced."""
        return f"{self.transactional_prefix}-{partition}"

    def inputs_of(self, partition: int) -> list[TP]:
        """Partition p of every input topic, in the order of ``inputs``."""
        return [TP(topic, partition) for topic in self.inputs]

    def owns(self, given: Collection[str]) -> bool:
        """Does who was given partition p of these input topics own p?

        While a rolling restart changes who is a member, workers do not read the same topics. Kafka's group
        then gives the topics that all read to one worker together, and those that only some read apart from
        them. So the larger part decides: of the topics of those awaited, and the requests topic, which comes
        first where two halves are equal. The topics of those in shadow decide nothing.
        """
        leading = [self.inputs[t] for t in dict.fromkeys(self.topic_of[: len(self.config.members)])]
        if self.requests is not None:
            leading.insert(0, self.inputs[self.requests])
        mine = sum(topic in given for topic in leading)
        return 2 * mine > len(leading) or (2 * mine == len(leading) and leading[0] in given)

    def partition(
        self,
        partition: int,
        producer: PartitionProducer,
        on_failure: Callable[[BaseException], None],
        absent: Collection[str] = (),
    ) -> FuserPartition:
        """A new, empty state for partition p; ``absent`` are input topics whose partition p another process
        has.
        """
        config = self.config
        names = everyone(config)
        rules = JoinRules(
            members=len(names),
            values=len(self.domain.names),
            topic_of=self.topic_of,
            topics=len(self.inputs),
            partition=partition,
            partitions=config.partitions,
            deadline_ms=config.deadline_ms,
            quorum=config.quorum,
            has_prior=config.prior is not None,
            silence_after_ms=silence_after_ms(config),
            lateness_horizon_ms=self.lateness_horizon_ms,
            required=sum(1 << config.members.index(name) for name in config.required),
            shadows=sum(1 << names.index(name) for name in config.shadows),
        )
        outlets = Outlets(
            inputs=self.inputs,
            requests=self.requests,
            fused=TopicPartition(self.fused, partition),
            late=TopicPartition(self.late, partition),
            dead_letter=TopicPartition(self.dead_letter, 0),
            feedback=TopicPartition(self.feedback, partition),
        )
        form = FusedFormat(
            members=names,
            topics=tuple(self.inputs[t] for t in self.topic_of),
            classes=self.domain.names,
            exclusive=not self.domain.parts,
            partition=partition,
            config=decision_digest(config),
        )
        fusion = Fusion(
            self.algorithm,
            self.weights,
            self.prior,
            time.monotonic,
            domain=self.domain,
            write=columnar if config.fused_records == "columnar" else single,
            shadows=rules.shadows,
        )
        return FuserPartition(
            rules,
            outlets,
            self.readers,
            fusion,
            form,
            producer,
            on_failure,
            early=config.early_decision,
            most_waiting=config.max_open_requests,
            absent=sum(1 << k for k, t in enumerate(self.topic_of) if self.inputs[t] in absent),
        )


def fused_ensemble(settings: Settings, name: str, weights: Weights) -> FusedEnsemble:
    """Put ensemble ``name`` of the settings together."""
    config = settings.ensembles[name]
    topics = topic_names(name, config)
    inputs = list(dict.fromkeys(topics.predictions))
    topic_of = tuple(inputs.index(topic) for topic in topics.predictions)
    requests = None
    if topics.requests:
        requests = len(inputs)
        inputs.append(topics.requests)
    domain = domain_of(config.task)
    return FusedEnsemble(
        name=name,
        config=config,
        inputs=tuple(inputs),
        topic_of=topic_of,
        requests=requests,
        fused=topics.fused,
        late=topics.late,
        dead_letter=topics.dead_letter,
        feedback=topics.feedback,
        readers=(
            PredictionReader(everyone(config), topic_of, domain),
            RequestReader(everyone(config)),
        ),
        domain=domain,
        algorithm=make(config.learning, config.task, everyone(config)),
        weights=weights,
        prior=None if config.prior is None else np.array(config.prior, np.float64),
        transactional_prefix=f"{settings.app}-fuse-{name}",
    )
