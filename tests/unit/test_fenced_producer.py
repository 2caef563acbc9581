"""What waits to be sent under an old fence never goes out under a new one."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.errors import ProducerFenced
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka import fenced_producer
from stream_ensemble.kafka.fence import Fence
from stream_ensemble.kafka.fenced_producer import FencedProducer

FUSED, OTHER = TopicPartition("fused", 0), TopicPartition("fused", 1)


async def test_a_fence_gives_up_what_still_waits_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = iter(range(3))

    async def fence(*_: Any, **__: Any) -> Fence:
        epoch = next(epochs)
        return Fence(7, epoch, epoch)

    monkeypatch.setattr(fenced_producer, "fence", fence)
    producer = FencedProducer({"bootstrap_servers": "127.0.0.1:1"}, max_batch_bytes=1 << 16)
    await producer.fence("id-0", [FUSED])
    await producer.fence("id-1", [OTHER])
    (old,), (other,) = producer.send(FUSED, [b"k"], [b"v"]), producer.send(OTHER, [b"k"], [b"v"])
    await producer.fence("id-0", [FUSED])
    (new,) = producer.send(FUSED, [b"k"], [b"v"])
    assert isinstance(old.future.exception(), ProducerFenced)
    assert not other.future.done() and not new.future.done()
    assert [batch.future for batch in producer._producer._message_accumulator._batches[FUSED]] == [new.future]
    for one in (producer._producer, producer._plain):
        one._message_accumulator.fail_all(ProducerFenced())
        await one.stop()
