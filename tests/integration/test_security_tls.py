"""TLS with a client certificate, and SCRAM over it, alike for every client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from msgspec.structs import replace

from stream_ensemble import config
from stream_ensemble.cli.topics import make_right
from stream_ensemble.config import Ensemble, Kafka, Secret, Settings, Task
from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.kafka.security import client_options, confluent_options, faust_options
from stream_ensemble.stores.redis_connection import connect, explain
from tests.behind_tls import CA, FILES, behind_tls

OTHER_CA = str(FILES / "other-ca.pem")
USER, PASSWORD = "worker", "scram-pässword"
WAIT_S = 20.0
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class TlsKafka(EmbeddedKafka):
    """A broker whose clients need TLS, a certificate signed by our authority, and a login."""

    def __init__(self) -> None:
        server = str(FILES / "server.pem")
        listener = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": server,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": CA,
            "ssl.client.auth": "required",
            "scram-sha-512.sasl.jaas.config": SCRAM,
        }
        overrides = {f"listener.name.client.{name}": value for name, value in listener.items()} | {
            "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        }
        super().__init__(sasl=("root", "root-password"), overrides=overrides)

    @property
    def client_options(self) -> dict[str, Any]:
        return client_options(self.as_root())

    def as_root(self) -> Kafka:
        return settings_for(
            self.bootstrap,
            sasl_mechanism="PLAIN",
            sasl_username="root",
            sasl_password=Secret("root-password"),
        )


def settings_for(bootstrap: str, **changes: Any) -> Kafka:
    """What a deployment would set."""
    kafka = Kafka(
        bootstrap_servers=[bootstrap],
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username=USER,
        sasl_password=Secret(PASSWORD),
        ssl_cafile=CA,
        ssl_certfile=str(FILES / "client.pem"),
        ssl_keyfile=str(FILES / "client.key"),
        ssl_keyfile_password=Secret("test-key-password"),
        request_timeout_s=10.0,
    )
    return replace(kafka, **changes)


@pytest.fixture(scope="module")
def kafka() -> Iterator[Kafka]:
    with TlsKafka() as server:
        upsert = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode()
        )
        admin = AdminClient(confluent_options(server.as_root()))
        admin.alter_user_scram_credentials([upsert])[USER].result(WAIT_S)
        yield settings_for(server.bootstrap)


async def test_every_client_gets_in_with_scram_and_a_certificate(kafka: Kafka) -> None:
    ensemble = Ensemble(members=["a"], task=Task(classes=["no", "yes"]), partitions=1)
    await make_right(Settings(kafka=kafka, ensembles={"digits": ensemble}))
    publisher = confluent_kafka.Producer(confluent_options(kafka))
    publisher.produce("digits.fused", b"from librdkafka")
    assert publisher.flush(WAIT_S) == 0
    async with AIOKafkaProducer(**client_options(kafka)) as producer:
        await producer.send_and_wait("digits.fused", b"from aiokafka")
    through_faust = credentials_to_aiokafka_auth(faust_options(kafka)["broker_credentials"])
    async with AIOKafkaConsumer(
        "digits.fused",
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        **through_faust,
    ) as consumer:
        values = [(await consumer.getone()).value for _ in range(2)]
    assert values == [b"from librdkafka", b"from aiokafka"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ssl_cafile": OTHER_CA}, "its certificate is not accepted"),
        (
            {"ssl_certfile": None, "ssl_keyfile": None, "ssl_keyfile_password": None},
            "does this listener speak SASL_SSL",
        ),
        ({"security_protocol": "SASL_PLAINTEXT"}, "does this listener speak SASL_PLAINTEXT"),
        ({"sasl_password": Secret("wrong")}, "refused user 'worker' (SCRAM-SHA-512)"),
        ({"sasl_username": "nobody"}, "refused user 'nobody' (SCRAM-SHA-512)"),
    ],
)
async def test_what_keeps_a_client_out_is_named(kafka: Kafka, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServerUnavailableError) as caught:
        async with admin_client(replace(kafka, **changes)):
            pytest.fail("let in")
    assert reason in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    with EmbeddedRedis(password="redis-password") as server:
        yield server.port


def redis_settings(port: int, **changes: Any) -> config.Redis:
    given = {
        "url": f"rediss://127.0.0.1:{port}/0",
        "password": Secret("redis-password"),
        "ssl_cafile": CA,
        "ssl_certfile": str(FILES / "server.pem"),
    }
    return config.Redis(**(given | changes))


async def test_redis_is_reached_through_tls_with_a_certificate(redis_port: int) -> None:
    async with behind_tls(redis_port, "server.pem") as port:
        client = connect(redis_settings(port))
        assert await client.ping()
        await client.aclose()


@pytest.mark.parametrize(
    ("certificate", "changes", "reason"),
    [
        ("server.pem", {"ssl_cafile": OTHER_CA}, "its certificate is not accepted"),
        ("elsewhere.pem", {}, "its certificate is not accepted"),
        ("server.pem", {"ssl_certfile": None}, "no connection"),
    ],
)
async def test_what_keeps_us_from_redis_is_named(
    redis_port: int, certificate: str, changes: dict[str, Any], reason: str
) -> None:
    async with behind_tls(redis_port, certificate) as port:
        redis = redis_settings(port, **changes)
        client = connect(redis)
        with pytest.raises(Exception) as caught:
            await client.ping()
        await client.aclose()
    assert reason in str(explain(redis, caught.value))


async def test_another_host_name_passes_when_it_is_not_checked(redis_port: int) -> None:
    async with behind_tls(redis_port, "elsewhere.pem") as port:
        client = connect(redis_settings(port, ssl_check_hostname=False))
        assert await client.ping()
        await client.aclose()
