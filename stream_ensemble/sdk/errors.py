"""Errors of the SDK, in the package's tree, and the translation of aiokafka's into it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import errors as kafka_errors

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError, StreamEnsembleError, TopologyError


class InvalidInputError(StreamEnsembleError, ValueError):
    """What was to be published is wrong; nothing of the call was sent. The message names the row."""


class RefusedError(StreamEnsembleError):
    """The broker refused what was asked of it. ``retriable``: asking the same again may succeed.

    Part of a call with many records may have been written. Publishing all of it again is safe: a second
    prediction or label of the same kind is counted as a duplicate and changes nothing.
    """

    def __init__(self, message: str, *, retriable: bool) -> None:
        super().__init__(message)
        self.retriable = retriable


_UNREACHABLE = (
    kafka_errors.KafkaConnectionError,
    kafka_errors.KafkaTimeoutError,
    kafka_errors.NoBrokersAvailable,
    kafka_errors.NodeNotReadyError,
    kafka_errors.RequestTimedOutError,
)
# A failed batch breaks the sequence of an idempotent producer; a new producer starts a new one.
_BROKEN_SEQUENCE = (
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.ProducerClosed,
    kafka_errors.ProducerFenced,
    kafka_errors.UnknownProducerId,
)


def unavailable(kafka: config.Kafka, detail: object) -> ServerUnavailableError:
    """The error for a Kafka that does not answer: its address and what to check."""
    return ServerUnavailableError(
        f"Kafka at {', '.join(kafka.bootstrap_servers)} does not answer ({detail}); check that it runs, "
        "and kafka.bootstrap_servers and kafka.security_protocol in the settings"
    )


def translated(error: kafka_errors.KafkaError, kafka: config.Kafka, topic: str) -> StreamEnsembleError:
    """``error`` of aiokafka as one of this package's, for a call that concerned ``topic``."""
    if isinstance(error, _UNREACHABLE):
        return unavailable(kafka, error)
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return TopologyError(f"topic {topic} does not exist; `stream-ensemble topics create` makes it")
    retriable = bool(error.retriable) or isinstance(error, _BROKEN_SEQUENCE)
    return RefusedError(f"topic {topic}: {error}", retriable=retriable)


@asynccontextmanager
async def answered_in_time(
    kafka: config.Kafka, topic: str, *, group_changes: bool = False
) -> AsyncIterator[None]:
    """Bounds what is done inside by ``kafka.request_timeout_s`` and translates aiokafka's errors.

    An idempotent aiokafka producer never gives up by itself, so the bound stands here.

    Args:
        kafka: whose time-outs.
        topic: what the errors speak of.
        group_changes: a group is joined inside, which may first have to wait for a dead member's session and
            then for the living to let go.
    """
    within_s = kafka.request_timeout_s
    if group_changes:
        within_s += kafka.session_timeout_s + kafka.rebalance_timeout_s
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError:
        raise unavailable(kafka, f"nothing within {within_s:g} s") from None
    except kafka_errors.KafkaError as error:
        raise translated(error, kafka, topic) from error
