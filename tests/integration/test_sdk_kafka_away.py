"""Kafka is not there, goes away, and comes back: what the SDK says and what it goes on with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from aiokafka import ConsumerRecord

from stream_ensemble import config
from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.sdk import (
    FeedbackPublisher,
    FusedConsumer,
    ModelWorker,
    PredictionPublisher,
    Request,
    RequestPublisher,
)
from tests.integration.sdk_topics import RIGHT, make_topics, read, read_until, settings_of, topics_of

WAIT_S = 60.0


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[EmbeddedKafka]:
    """A broker of our own, since here it is stopped under the clients' hands."""
    with EmbeddedKafka() as kafka:
        yield kafka


@pytest.fixture
def settings(own_kafka: EmbeddedKafka, ensemble_name: str, runner: asyncio.Runner) -> config.Settings:
    made = settings_of(own_kafka.bootstrap, ensemble_name, request_timeout_s=4.0, session_timeout_s=6.0)
    runner.run(make_topics(made))
    return made


async def enter(client: PredictionPublisher | FeedbackPublisher | RequestPublisher | FusedConsumer) -> None:
    async with client:
        raise AssertionError("entered without a broker")


@pytest.mark.parametrize("kind", ["predictions", "feedback", "requests", "fused", "worker"])
async def test_where_no_broker_listens_the_error_is_clear_and_retriable(kind: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    nowhere = settings_of(address, "e", request_timeout_s=4.0)
    attempts = {
        "predictions": lambda: enter(PredictionPublisher(nowhere, "e", "a")),
        "feedback": lambda: enter(FeedbackPublisher(nowhere, "e")),
        "requests": lambda: enter(RequestPublisher(nowhere, "e")),
        "fused": lambda: enter(FusedConsumer(nowhere, "e", group="g")),
        "worker": lambda: ModelWorker(nowhere, "e", "a", lambda batch: [RIGHT] * len(batch)).serve(),
    }
    with pytest.raises(ServerUnavailableError, match=f"Kafka at {address}: connection refused") as caught:
        await attempts[kind]()
    assert caught.value.retriable


async def test_a_publisher_says_so_in_time_and_goes_on_when_kafka_answers_again(
    own_kafka: EmbeddedKafka, settings: config.Settings, ensemble_name: str
) -> None:
    many = [f"m{row}" for row in range(100)]
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        await predictions.publish("before", RIGHT)
        own_kafka.pause()
        try:
            started = time.monotonic()
            with pytest.raises(ServerUnavailableError, match="does not answer") as caught:
                await predictions.publish("during", RIGHT)
            with pytest.raises(ServerUnavailableError, match="does not answer"):
                await predictions.publish_many(many, [RIGHT] * 100)
            assert time.monotonic() - started < 2 * settings.kafka.request_timeout_s + 2
        finally:
            own_kafka.resume()
        assert caught.value.retriable
        async with asyncio.timeout(WAIT_S):
            await publish_at_last(predictions, [*many, "during"])
    found = await read(settings, topics_of(settings).predictions[0], 102)
    assert {record.key.decode() for record in found} == {"before", "during", *many}


async def publish_at_last(predictions: PredictionPublisher, request_ids: list[str]) -> None:
    while True:
        try:
            return await predictions.publish_many(request_ids, [RIGHT] * len(request_ids))
        except ServerUnavailableError:
            continue


async def test_closing_while_kafka_is_away_ends_and_leaves_no_task_behind(
    own_kafka: EmbeddedKafka,
    settings: config.Settings,
    ensemble_name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_ensemble.sdk.clients._STOP_WITHIN_S", 1.0)
    async with PredictionPublisher(settings, ensemble_name, "a") as predictions:
        await predictions.publish("r", RIGHT)
        own_kafka.kill()
        try:
            with pytest.raises(ServerUnavailableError):
                await predictions.publish("r", RIGHT)
            started = time.monotonic()
            await predictions.__aexit__(None, None, None)
            assert time.monotonic() - started < 3
        finally:
            own_kafka.start()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_worker_that_cannot_publish_still_stops_in_time_and_repeats_the_batch_later(
    own_kafka: EmbeddedKafka, settings: config.Settings, ensemble_name: str
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def predict(batch: list[Request]) -> list[list[float]]:
        asked.set()
        await answer.wait()
        return [RIGHT for _ in batch]

    worker = ModelWorker(settings, ensemble_name, "a", predict)
    serving = asyncio.create_task(worker.serve())
    async with asyncio.timeout(WAIT_S), RequestPublisher(settings, ensemble_name) as requests:
        await requests.publish("r")
        await asked.wait()
        own_kafka.pause()
        try:
            answer.set()
            worker.stop()
            started = time.monotonic()
            await serving
            assert time.monotonic() - started < 10
        finally:
            own_kafka.resume()
        again = ModelWorker(settings, ensemble_name, "a", predict)
        serving = asyncio.create_task(again.serve())
        await read_until(settings, topics_of(settings).predictions[0], has_key(b"r"))
        again.stop()
        await serving


async def test_a_worker_goes_on_after_kafka_was_restarted(
    own_kafka: EmbeddedKafka, settings: config.Settings, ensemble_name: str
) -> None:
    worker = ModelWorker(settings, ensemble_name, "a", lambda batch: [RIGHT for _ in batch])
    serving = asyncio.create_task(worker.serve())
    async with asyncio.timeout(WAIT_S), RequestPublisher(settings, ensemble_name) as requests:
        await requests.publish("before")
        await read(settings, topics_of(settings).predictions[0], 1)
        own_kafka.kill()
        own_kafka.start()
        await ask_at_last(requests, "after")
        answered = await read_until(settings, topics_of(settings).predictions[0], has_key(b"after"))
        worker.stop()
        await serving
    assert {record.key for record in answered} == {b"before", b"after"}


async def ask_at_last(requests: RequestPublisher, request_id: str) -> None:
    while True:
        try:
            return await requests.publish(request_id)
        except ServerUnavailableError:
            continue


def has_key(key: bytes) -> Callable[[list[ConsumerRecord]], bool]:
    return lambda found: any(record.key == key for record in found)
