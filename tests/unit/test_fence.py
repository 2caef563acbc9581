"""Fencing near the end of a transactional id's epochs, by a coordinator that keeps Kafka's rules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.fence import EPOCH_LIMIT, fence

FUSED = TopicPartition("fused", 0)
LAST_EPOCH = 32_766


class Coordinator:
    """Raises the epoch at each InitProducerId; a new producer id follows the last one.

    Attributes:
        markers: (producer id, epoch) of the control markers that aborting wrote.
    """

    def __init__(self, producer_id: int, epoch: int) -> None:
        self.producer_id, self.epoch = producer_id, epoch
        self.markers: list[tuple[int, int]] = []
        self._open = False

    async def coordinator_lookup(self, kind: int, name: str) -> int:
        return 1

    async def send(self, node: int, request: Any) -> Any:
        if not isinstance(request, InitProducerIdRequest):
            self._open = True
            return SimpleNamespace(errors=[("fused", [(0, 0)])])
        self.epoch += 1
        if self._open:
            self.markers.append((self.producer_id, self.epoch))
            self._open = False
        if self.epoch > LAST_EPOCH:
            self.producer_id, self.epoch = self.producer_id + 1, 0
        return SimpleNamespace(error_code=0, producer_id=self.producer_id, producer_epoch=self.epoch)


async def test_a_fence_writes_one_marker_with_a_higher_epoch() -> None:
    broker = Coordinator(7, 10)
    held = await fence(broker, "id", [FUSED])
    assert (held.producer_id, held.epoch, held.first_epoch) == (7, 12, 11)
    assert broker.markers == [(7, 12)]


async def test_above_the_limit_the_old_id_is_fenced_once_and_then_used_up() -> None:
    broker = Coordinator(7, EPOCH_LIMIT - 2)
    held = await fence(broker, "id", [FUSED])
    assert (held.producer_id, held.epoch) == (8, 0)
    # The owner before produced below the limit, under the old id: the marker is above it.
    assert broker.markers == [(7, EPOCH_LIMIT)]
