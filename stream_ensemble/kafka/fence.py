"""Fencing a partition: from here on the broker refuses every older owner's writes to it.

InitProducerId, AddPartitionsToTxn, InitProducerId again: the second one aborts the empty transaction, which
writes a control marker with the new epoch into each partition, and the leaders refuse older epochs from
then on (measured: a single InitProducerId does not). Nothing of it is visible to readers, and batches cost
nothing more than with plain idempotence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.client import CoordinationType
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, InitProducerIdRequest
from aiokafka.structs import TopicPartition

from stream_ensemble.errors import ServerUnavailableError

#: Epochs are int16 and a fence costs up to 3; nobody produces above this.
EPOCH_LIMIT = 32_000
_BACKOFF_S = 0.01
_PASSING = (
    kafka_errors.ConcurrentTransactions,
    kafka_errors.CoordinatorLoadInProgressError,
    kafka_errors.CoordinatorNotAvailableError,
    kafka_errors.NotCoordinatorError,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
    kafka_errors.UnknownTopicOrPartitionError,
    kafka_errors.KafkaConnectionError,
)

_T = TypeVar("_T")


class Fence(NamedTuple):
    """The producer id and epoch that alone may write; ``first_epoch`` is what the first InitProducerId
    answered.
    """

    producer_id: int
    epoch: int
    first_epoch: int


async def fence(
    client: Any,
    transactional_id: str,
    partitions: Sequence[TopicPartition],
    *,
    transaction_timeout_ms: int = 10_000,
    timeout_s: float = 30.0,
) -> Fence:
    """Fence ``partitions`` for the holder of ``transactional_id``.

    Raises:
        ServerUnavailableError: no transaction coordinator answered within ``timeout_s``.
    """
    deadline = time.monotonic() + timeout_s

    async def coordinator() -> int:
        node: int = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
        return node

    async def init() -> tuple[int, int]:
        answer = await client.send(
            await coordinator(), InitProducerIdRequest(transactional_id, transaction_timeout_ms)
        )
        _raise_for(answer.error_code)
        return answer.producer_id, answer.producer_epoch

    by_topic: dict[str, list[int]] = {}
    for tp in partitions:
        by_topic.setdefault(tp.topic, []).append(tp.partition)

    async def add(producer_id: int, epoch: int) -> None:
        request = AddPartitionsToTxnRequest(transactional_id, producer_id, epoch, list(by_topic.items()))
        answer = await client.send(await coordinator(), request)
        for _, results in answer.errors:
            for _, code in results:
                _raise_for(code)

    producer_id, epoch = await _retried(init, deadline, transactional_id)
    first_epoch = epoch
    await _retried(partial(add, producer_id, epoch), deadline, transactional_id)
    producer_id, epoch = await _retried(init, deadline, transactional_id)
    # The marker stands by now: what is left of the epochs is used up without one, till another id comes.
    while epoch >= EPOCH_LIMIT:
        producer_id, epoch = await _retried(init, deadline, transactional_id)
    return Fence(producer_id, epoch, first_epoch)


def _raise_for(code: int) -> None:
    if code:
        raise kafka_errors.for_code(code)()


async def _retried(call: Callable[[], Awaitable[_T]], deadline: float, transactional_id: str) -> _T:
    while True:
        try:
            return await call()
        except _PASSING as error:
            if time.monotonic() > deadline:
                raise ServerUnavailableError(
                    f"no transaction coordinator answers for {transactional_id}: {error!r}; "
                    "check that the brokers are up and that "
                    "transaction.state.log.replication.factor is not above the number of brokers"
                ) from error
            await asyncio.sleep(_BACKOFF_S)
