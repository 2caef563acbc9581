"""The SDK on a Kafka that asks for user and password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec
import pytest

from stream_ensemble import config
from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.sdk import ModelWorker, PredictionPublisher, Request, RequestPublisher
from tests.integration.sdk_topics import RIGHT, make_topics, settings_of

WAIT_S = 30.0


@pytest.fixture(scope="module")
def guarded_kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(sasl=("someone", "a secret")) as kafka:
        yield kafka


def logged_in(kafka: EmbeddedKafka, ensemble: str, password: str) -> config.Settings:
    plain = settings_of(kafka.bootstrap, ensemble)
    login = msgspec.structs.replace(
        plain.kafka,
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="someone",
        sasl_password=config.Secret(password),
    )
    return msgspec.structs.replace(plain, kafka=login)


async def test_publisher_and_worker_log_in_with_the_settings_user(
    guarded_kafka: EmbeddedKafka, ensemble_name: str
) -> None:
    settings = logged_in(guarded_kafka, ensemble_name, "a secret")
    await make_topics(settings)
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def predict(batch: list[Request]) -> list[list[float]]:
        loop.call_soon_threadsafe(seen.set)
        return [RIGHT for _ in batch]

    worker = ModelWorker(settings, ensemble_name, "a", predict)
    async with asyncio.timeout(WAIT_S):
        serving = asyncio.create_task(worker.serve())
        async with RequestPublisher(settings, ensemble_name) as requests:
            await requests.publish("r")
        await seen.wait()
        worker.stop()
        await serving


async def test_a_wrong_password_is_said_to_be_one_and_not_shown(
    guarded_kafka: EmbeddedKafka, ensemble_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = logged_in(guarded_kafka, ensemble_name, "a wrong one")
    with pytest.raises(ServerUnavailableError, match="refused user 'someone'") as caught:
        async with PredictionPublisher(settings, ensemble_name, "a"):
            raise AssertionError("entered with a wrong password")
    assert "a wrong one" not in str(caught.value) + caplog.text
