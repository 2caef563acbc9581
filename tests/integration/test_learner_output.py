"""The learner's transactions: a refusal is recognised at whatever moment it comes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from stream_ensemble.errors import FencedError
from stream_ensemble.kafka.security import client_options
from stream_ensemble.learner.output import Outgoing, TransactionalOutput
from tests.integration.learner_world import World


async def test_a_refusal_between_two_batches_is_a_refusal(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        outputs = [
            TransactionalOutput(
                client_options(world.settings.kafka),
                transactional_id=f"{ensemble_name}-t",
                group_id=ensemble_name,
                max_batch_bytes=16_384,
                compression=None,
            )
            for _ in range(2)
        ]
        old, new = outputs
        await old.start()
        topics = (world.topics.applied, world.topics.late, world.topics.weights)
        records = [Outgoing(TopicPartition(topic, 0), b"k", b"v") for topic in topics]
        send, calls = old._producer.send_batch, 0

        async def send_and_be_refused(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == len(topics):
                # Adding the second topic to the transaction was refused: aiokafka's sender has ended by that.
                await asyncio.wait([old._producer._sender.sender_task], timeout=20)
            sent = await send(*args, **kwargs)
            if calls == 1:
                await new.start()
            return sent

        old._producer.send_batch = send_and_be_refused
        try:
            with pytest.raises(FencedError):
                await old.commit(records, {TopicPartition(world.topics.fused, 0): 1}, "")
        finally:
            for output in outputs:
                await output.stop()
