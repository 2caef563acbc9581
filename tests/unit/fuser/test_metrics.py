"""What a fuse worker says of what it bounds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP
from prometheus_client import CollectorRegistry

from stream_ensemble import config
from stream_ensemble.fuser.ensemble import fused_ensemble
from stream_ensemble.fuser.metrics import FuserCollector
from stream_ensemble.fuser.owner import FuseOwner


class Consumer:
    async def hold(self, partitions: set[TP]) -> None:
        pass


async def test_each_cap_has_a_number_beside_it() -> None:
    task = config.Task(classes=["x", "y"])
    settings = config.Settings(ensembles={"e": config.Ensemble(members=["a", "b"], task=task)})
    producer: Any = SimpleNamespace(bytes_in_flight=77)
    ensemble = fused_ensemble(
        settings, "e", SimpleNamespace(current=lambda: SimpleNamespace(membership=None))
    )  # type: ignore[arg-type]
    app: Any = SimpleNamespace(consumer=Consumer())
    app.owner = owner = FuseOwner(app, settings, [ensemble], producer, {})
    partition = ensemble.partition(3, producer, lambda _: None)
    partition.join.closed.add([b"ended", b"too"], 5)
    owner.partitions["e", 3] = partition
    await owner._hold(set(), {TP("e.predictions.b", 3), TP("e.predictions.b", 2)})
    registry = CollectorRegistry()
    registry.register(FuserCollector(app, {}))
    place = {"ensemble": "e", "partition": "3"}
    assert registry.get_sample_value("stream_ensemble_open_requests", place) == 0
    assert registry.get_sample_value("stream_ensemble_ended_requests_known", place) == 2
    assert registry.get_sample_value("stream_ensemble_inputs_held", place) == 1
    assert registry.get_sample_value("stream_ensemble_bytes_in_flight") == 77
