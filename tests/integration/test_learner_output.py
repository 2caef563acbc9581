"""A partition's transactions: a refusal is recognised at whatever moment it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiokafka.structs import TopicPartition

from stream_ensemble.errors import FencedError
from stream_ensemble.kafka.security import client_options
from stream_ensemble.kafka.transactional_output import Batch, TransactionalOutput
from tests.integration.learner_world import World


@pytest.mark.parametrize("seen_by_the_sender", [False, True])
async def test_a_refusal_between_records_and_offsets_is_a_refusal(
    kafka_bootstrap: str, redis_url: str, ensemble_name: str, tmp_path: Path, seen_by_the_sender: bool
) -> None:
    async with World(kafka_bootstrap, redis_url, ensemble_name, tmp_path) as world:
        old, new = [
            TransactionalOutput(
                client_options(world.settings.kafka),
                transactional_id=f"{ensemble_name}-t",
                group_id=ensemble_name,
                max_batch_bytes=16_384,
                compression=None,
            )
            for _ in range(2)
        ]
        await old.start()
        first, other = (TopicPartition(topic, 0) for topic in (world.topics.applied, world.topics.late))

        def batch(tp: TopicPartition) -> Batch:
            made = Batch(tp, old.batch())
            made.builder.extend([b"k"], [b"v"], None, 0)
            return made

        async def offsets() -> Mapping[TopicPartition, int]:
            """The first batch stands by now."""
            await new.start()
            if seen_by_the_sender:
                # Adding a second topic to the transaction is refused: aiokafka's sender ends by that.
                old._send(batch(other))
                await asyncio.wait([old._producer._sender.sender_task], timeout=20)
            return {TopicPartition(world.topics.fused, 0): 1}

        try:
            with pytest.raises(FencedError):
                await old.commit_batches([batch(first)], offsets, "")
        finally:
            for output in (old, new):
                await output.stop()
