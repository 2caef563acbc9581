"""The same settings in the words of each client, and TLS files that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from faust.auth import SASLCredentials, SSLCredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from msgspec.structs import replace

from stream_ensemble import config
from stream_ensemble.config import Kafka, Secret
from stream_ensemble.errors import SettingsError
from stream_ensemble.kafka.security import client_options, confluent_options, faust_options
from stream_ensemble.stores.redis_connection import connect, describe

SASL = Kafka(
    bootstrap_servers=["a:9092", "b:9093"],
    security_protocol="SASL_PLAINTEXT",
    sasl_mechanism="SCRAM-SHA-512",
    sasl_username="me",
    sasl_password=Secret("hidden"),
)
TLS = Kafka(security_protocol="SSL")


def test_a_plain_listener_needs_nothing_but_its_address() -> None:
    plain = Kafka(bootstrap_servers=["a:9092"], request_timeout_s=2.5)
    assert client_options(plain) == {
        "bootstrap_servers": ["a:9092"],
        "security_protocol": "PLAINTEXT",
        "request_timeout_ms": 2500,
    }
    assert faust_options(plain) == {"broker": ["kafka://a:9092"]}
    assert confluent_options(plain) == {
        "bootstrap.servers": "a:9092",
        "security.protocol": "PLAINTEXT",
        "socket.timeout.ms": 2500,
    }


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_faust_logs_in_as_aiokafka_does(protocol: Any, mechanism: Any) -> None:
    kafka = replace(SASL, security_protocol=protocol, sasl_mechanism=mechanism)
    credentials = faust_options(kafka)["broker_credentials"]
    assert isinstance(credentials, SASLCredentials)
    through_faust = dict(credentials_to_aiokafka_auth(credentials))
    directly = client_options(kafka)
    context = through_faust.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext) is (protocol == "SASL_SSL")
    assert through_faust.items() <= directly.items()
    assert through_faust["sasl_plain_password"] == "hidden"
    assert "hidden" not in repr(credentials)


def test_tls_without_a_login_is_the_same_for_all() -> None:
    credentials = faust_options(TLS)["broker_credentials"]
    assert isinstance(credentials, SSLCredentials)
    assert credentials_to_aiokafka_auth(credentials)["security_protocol"] == "SSL"
    assert client_options(TLS)["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert confluent_options(TLS)["ssl.endpoint.identification.algorithm"] == "https"


def test_the_host_name_is_checked_unless_told_otherwise() -> None:
    assert client_options(TLS)["ssl_context"].check_hostname
    lenient = replace(TLS, ssl_check_hostname=False)
    assert not client_options(lenient)["ssl_context"].check_hostname
    assert client_options(lenient)["ssl_context"].verify_mode == ssl.CERT_REQUIRED
    assert confluent_options(lenient)["ssl.endpoint.identification.algorithm"] == "none"


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
@pytest.mark.parametrize("section", ["kafka", "redis"])
@pytest.mark.parametrize(
    ("content", "reason"), [(None, "cannot be read: No such file"), ("no PEM", "expected a? ?cert")]
)
def test_a_tls_file_that_cannot_be_used_is_named(
    section: str, name: str, content: str | None, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=rf'^{section}\.{name} = ".*file\.pem": {reason}'):
        if section == "kafka":
            client_options(replace(TLS, **{name: str(file)}))
        else:
            connect(config.Redis(url="rediss://h:1", **{name: str(file)}))


def test_librdkafka_is_told_the_files() -> None:
    kafka = replace(TLS, ssl_cafile="ca", ssl_certfile="cert", ssl_keyfile_password=Secret("hidden"))
    options = confluent_options(kafka)
    assert options["ssl.ca.location"] == "ca"
    assert options["ssl.certificate.location"] == options["ssl.key.location"] == "cert"
    assert options["ssl.key.password"] == "hidden"


@pytest.mark.parametrize(
    ("redis", "said"),
    [
        (config.Redis(url="redis://:hidden@h:1/2"), "h:1/2"),
        (config.Redis(url="rediss://me:hidden@h:1"), "me@h:1 (TLS)"),
        (config.Redis(url="redis+cluster://me:hidden@h:1,i:2"), "me@h:1,i:2 (cluster)"),
        (config.Redis(url="rediss+cluster://[::1]:7000,i"), "[::1]:7000,i (cluster) (TLS)"),
        (config.Redis(url="unix:///run/redis.sock", password=Secret("hidden")), "/run/redis.sock"),
    ],
)
def test_redis_is_described_without_its_password(redis: config.Redis, said: str) -> None:
    assert describe(redis) == said
    assert "hidden" not in repr(redis) + repr(connect(redis))
