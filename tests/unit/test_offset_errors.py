"""An error of a group's coordinator is never taken for "nothing committed"."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.structs import TopicPartition

from stream_ensemble.kafka.offset_errors import OffsetsAdminClient, heed_offset_errors

TP = TopicPartition("predictions", 2)
LOADING, ELSEWHERE, UNKNOWN = 14, 16, 3


def told(*, error: int = 0, of_partition: int = 0, offset: int = 570) -> Any:
    topics = [] if error else [(TP.topic, [(TP.partition, offset, "", of_partition)])]
    return OffsetFetchResponse_v3(throttle_time_ms=0, topics=topics, error_code=error)


class Coordinator(GroupCoordinator):
    """aiokafka's own, with answers made beforehand."""

    def __init__(self, *answers: Any) -> None:
        self.group_id, self._retry_backoff_ms = "group", 1
        self.answers, self.dead = list(answers), 0

    async def _send_req(self, request: Any) -> Any:
        return self.answers.pop(0)

    async def ensure_coordinator_known(self) -> None:
        pass

    def coordinator_dead(self) -> None:
        self.dead += 1


@pytest.mark.parametrize("problem", [{"error": LOADING}, {"error": ELSEWHERE}, {"of_partition": UNKNOWN}])
async def test_a_consumer_asks_again(problem: dict[str, int]) -> None:
    coordinator = Coordinator(told(**problem), told())
    consumer: Any = SimpleNamespace(_coordinator=coordinator)
    heed_offset_errors(consumer)
    heed_offset_errors(consumer)
    found = await coordinator.fetch_committed_offsets([TP])
    assert found[TP].offset == 570
    assert coordinator.dead == (problem == {"error": ELSEWHERE})


async def test_nothing_committed_is_an_answer() -> None:
    coordinator = Coordinator(told(offset=-1))
    heed_offset_errors(SimpleNamespace(_coordinator=coordinator))  # type: ignore[arg-type]
    assert await coordinator.fetch_committed_offsets([TP]) == {}


async def test_the_admin_client_raises_it(monkeypatch: pytest.MonkeyPatch) -> None:
    admin = OffsetsAdminClient(bootstrap_servers="127.0.0.1:1")
    answers = [told(error=LOADING), told()]

    async def send(node_id: int, request: Any) -> Any:
        return answers.pop(0)

    monkeypatch.setattr(admin, "_client", SimpleNamespace(send=send))
    with pytest.raises(errors.GroupLoadInProgressError):
        await admin.list_consumer_group_offsets("group", 1, [TP])
    assert (await admin.list_consumer_group_offsets("group", 1, [TP]))[TP].offset == 570
