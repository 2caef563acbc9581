"""The fuse app: ``faust -A stream_ensemble.fuse worker``.

Thin: it wires the owner of partitions, the weights views and the producer to Faust. Settings come from
``ensemble.toml`` (or the file named by STREAM_ENSEMBLE_CONFIG) and the environment.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import torch
from prometheus_client import CollectorRegistry, ProcessCollector

from stream_ensemble import compiled
from stream_ensemble.fuser.ensemble import FusedEnsemble, fused_ensemble
from stream_ensemble.fuser.metrics import FuserCollector
from stream_ensemble.fuser.owner import FuseOwner
from stream_ensemble.kafka.fenced_producer import FencedProducer
from stream_ensemble.kafka.security import client_options
from stream_ensemble.stores.weights_view import WeightsView, view_of
from stream_ensemble.worker import die, load_settings, new_app, serve_pages, settle_logging, settle_memory

log = logging.getLogger(__name__)
settings = load_settings()
# One chunk at a time on one core: more threads would only wait for each other.
torch.set_num_threads(1)

app = new_app(settings, "fuse")
_views: dict[str, WeightsView] = {name: view_of(settings, name) for name in settings.ensembles}
_ensembles = [fused_ensemble(settings, name, view) for name, view in _views.items()]


def _owner() -> FuseOwner:
    return cast("FuseOwner", app.owner)


def _agent(ensemble: FusedEnsemble) -> None:
    topic = app.topic(
        *ensemble.inputs, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )

    @app.agent(topic, name=f"fuse-{ensemble.name}")  # type: ignore[untyped-decorator]
    async def fuse(stream: Any) -> None:
        async for chunks in stream:
            try:
                await _owner().process(chunks, stream.current_event.message.generation_id)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                die("fusing failed", error)


for _ensemble in _ensembles:
    _agent(_ensemble)


async def _keep_time(owner: FuseOwner) -> None:
    try:
        await owner.keep_time()
    except asyncio.CancelledError:
        raise
    except Exception as error:
        die("keeping time failed", error)


async def _begin() -> None:
    settle_logging(settings)
    if not compiled.AVAILABLE:
        log.warning("%s; %s", compiled.PROBLEM, compiled.REPAIR)
    options = client_options(settings.kafka)
    compression = settings.kafka.compression
    producer = FencedProducer(
        options,
        max_batch_bytes=settings.kafka.max_batch_bytes,
        compression=None if compression == "none" else compression,
        max_bytes_in_flight=settings.kafka.max_bytes_in_flight,
    )
    owner = FuseOwner(app, settings, _ensembles, producer, options)
    app.owner = owner
    await producer.start([topic for e in _ensembles for topic in (*e.inputs, e.fused, e.late, e.dead_letter)])
    for view in _views.values():
        await view.start()
    app.at_end.extend(view.stop for view in _views.values())
    app.at_end.append(producer.stop)
    app.add_future(_keep_time(owner))
    settle_memory()


app.at_start.append(_begin)

_registry = CollectorRegistry()
ProcessCollector(registry=_registry)
_registry.register(FuserCollector(app, _views))


def _health() -> tuple[bool, dict[str, Any]]:
    owner = app.owner
    owned = sorted(f"{name}/{number}" for name, number in _owner().partitions) if owner else []
    degraded = {name: view.degraded for name, view in _views.items() if view.degraded}
    return owner is not None and not app.rebalancing, {"partitions": owned, "degraded": degraded}


serve_pages(app, _registry, _health)
