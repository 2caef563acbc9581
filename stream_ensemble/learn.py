"""The learn app: ``faust -A stream_ensemble.learn worker``.

Thin: it wires the owner of partitions and the stores to Faust. Settings come from ``ensemble.toml`` (or the
file named by STREAM_ENSEMBLE_CONFIG) and the environment.
"""

from __future__ import annotations

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from stream_ensemble.kafka.transport import ChunkConsumer
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble
from stream_ensemble.learner.metrics import LearnerCollector
from stream_ensemble.learner.owner import LearnOwner
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_keys import RedisKeys
from stream_ensemble.worker import (
    data_dir,
    die,
    load_settings,
    new_app,
    serve_pages,
    settle_logging,
    settle_memory,
)

#: A fetch costs about a millisecond however few records it brings, as much as sixty labels; and nobody waits
#: for one, since what it brings goes out with a flush.
_FETCH_PAUSE_S = 0.03

settings = load_settings()
app = new_app(settings, "learn")
app.fetch_pause_s = _FETCH_PAUSE_S
_ensembles = [
    learned_ensemble(settings, name, group_id=app.conf.id, data_dir=data_dir(settings, "learn") / "labels")
    for name in settings.ensembles
]
_contributions = {
    name: RedisContributionStore(settings.redis, RedisKeys(settings.app, name)) for name in settings.ensembles
}


def _owner() -> LearnOwner | None:
    owner: LearnOwner | None = getattr(app, "owner", None)
    return owner


def _consumer() -> ChunkConsumer:
    consumer: ChunkConsumer = app.consumer
    return consumer


def _agent(ensemble: LearnedEnsemble) -> None:
    names = (ensemble.topics.fused, ensemble.topics.feedback)
    topic = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic, name=f"learn-{ensemble.name}")  # type: ignore[untyped-decorator]
    async def learn(stream: Any) -> None:
        async for chunks in stream:
            try:
                owner = _owner()
                assert owner is not None
                for chunk in chunks:
                    await owner.process(chunk, stream.current_event.message.generation_id)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                die("learning failed", error)


for _ensemble in _ensembles:
    _agent(_ensemble)


async def _begin() -> None:
    settle_logging(settings)
    limit_s = min(8.0, settings.kafka.rebalance_timeout_s / 2)
    app.owner = LearnOwner(_consumer, _ensembles, _contributions, closing_limit_s=limit_s, on_fault=die)
    app.at_end.extend(store.close for store in _contributions.values())
    settle_memory()


app.at_start.append(_begin)

_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
_registry.register(LearnerCollector(_owner))


def _health() -> tuple[bool, dict[str, Any]]:
    owner = _owner()
    partitions = owner.partitions if owner else {}
    owned = sorted(f"{name}/{number}" for name, number in partitions)
    degraded = {
        f"{name}/{number}": partition.publisher.degraded
        for (name, number), partition in partitions.items()
        if partition.publisher.degraded
    }
    return owner is not None and not app.rebalancing, {"partitions": owned, "degraded": degraded}


serve_pages(app, _registry, _health)
