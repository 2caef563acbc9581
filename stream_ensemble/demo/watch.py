"""Reads what the demo's ensemble puts out, into a Tally."""

from __future__ import annotations

import asyncio

import msgspec
from aiokafka import AIOKafkaConsumer

from stream_ensemble import FusedConsumer
from stream_ensemble.config import Settings, topic_names
from stream_ensemble.demo.tally import Tally
from stream_ensemble.kafka.security import client_options
from stream_ensemble.messages import Prediction

_decode = msgspec.json.Decoder(Prediction).decode


async def watch(settings: Settings, tally: Tally) -> None:
    """Read fused records and predictions until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch_fused(settings, tally))
        tasks.create_task(_watch_predictions(settings, tally))


async def _watch_fused(settings: Settings, tally: Tally) -> None:
    async with FusedConsumer(settings, next(iter(settings.ensembles)), from_beginning=True) as consumer:
        async for record in consumer:
            tally.add_fused(record, record.appended)


async def _watch_predictions(settings: Settings, tally: Tally) -> None:
    name, ensemble = next(iter(settings.ensembles.items()))
    consumer = AIOKafkaConsumer(
        *topic_names(name, ensemble).predictions,
        **client_options(settings.kafka),
        group_id=None,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        async for record in consumer:
            tally.add_prediction(_decode(record.value), record.timestamp)
    finally:
        await consumer.stop()
