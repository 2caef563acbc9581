"""A coordinator that cannot tell a group's offsets says so, and is asked again.

Since version 2 of OffsetFetch the error stands beside an empty list of topics, where aiokafka 0.14 does not
look: while a coordinator is loading, or is no longer the group's, nothing seems to be committed. Whoever
believed that would begin elsewhere and leave out what lies between.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.commit import OffsetFetchRequest


class OffsetsAdminClient(AIOKafkaAdminClient):
    """An admin client whose ``list_consumer_group_offsets`` raises what the coordinator answered."""

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        response = await super()._send_request(request, node_id)
        if isinstance(request, OffsetFetchRequest):
            raise_offset_error(response)
        return response


def heed_offset_errors(consumer: AIOKafkaConsumer) -> None:
    """Let a started consumer of a group ask again where it would take an error for "nothing committed"."""
    coordinator = consumer._coordinator
    if "_send_req" in vars(coordinator):
        return  # it does so already
    send = coordinator._send_req

    async def heeding(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest):
            try:
                raise_offset_error(response)
            except kafka_errors.NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
                raise
        return response

    coordinator._send_req = heeding


def raise_offset_error(response: Any) -> None:
    """Raise the first error of an OffsetFetch response, of the group or of a partition.

    Raises:
        KafkaError: the response is no answer; ``retriable`` says whether to ask again.
    """
    codes = [getattr(response, "error_code", 0)]
    codes += [code for _, partitions in response.topics for *_, code in partitions]
    for code in codes:
        if code:
            raise kafka_errors.for_code(code)()
