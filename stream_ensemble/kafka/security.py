"""The settings of ``[kafka]`` in the words of each client library.

The same login and the same TLS files serve Faust, aiokafka and librdkafka, so a deployment says them once.
"""

from __future__ import annotations

import logging
from typing import Any

from stream_ensemble.config import Kafka, Secret
from stream_ensemble.tls import client_context, tls_files


class _LoginsUnlogged(logging.Filter):
    """aiokafka logs each request at DEBUG, and a login holds the password."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args if isinstance(record.args, tuple) else ()
        return not any(type(argument).__name__.startswith("SaslAuthenticate") for argument in arguments)


# At import, because whoever logs in takes the password from here.
logging.getLogger("aiokafka.conn").addFilter(_LoginsUnlogged())


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Options for aiokafka's consumer, producer and admin client.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": list(kafka.bootstrap_servers),
        "security_protocol": kafka.security_protocol,
        "request_timeout_ms": round(kafka.request_timeout_s * 1000),
    }
    if _uses_tls(kafka):
        options["ssl_context"] = client_context(tls_files(kafka))
    if _uses_sasl(kafka):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": _revealed(kafka.sasl_password),
        }
    return options


def faust_options(kafka: Kafka) -> dict[str, Any]:
    """``broker`` and, where there is a login or TLS, ``broker_credentials`` for ``faust.App``.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """
    # Only the workers need Faust; every other process would wait for its import.
    from faust.auth import SASLCredentials, SSLCredentials

    options: dict[str, Any] = {"broker": [f"kafka://{server}" for server in kafka.bootstrap_servers]}
    context = client_context(tls_files(kafka)) if _uses_tls(kafka) else None
    if _uses_sasl(kafka):
        options["broker_credentials"] = SASLCredentials(
            username=kafka.sasl_username,
            password=_revealed(kafka.sasl_password),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = SSLCredentials(context)
    return options


def confluent_options(kafka: Kafka) -> dict[str, Any]:
    """Configuration for librdkafka (``confluent_kafka``), which reads the TLS files itself."""
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(kafka.bootstrap_servers),
        "security.protocol": kafka.security_protocol,
        "socket.timeout.ms": max(10, round(kafka.request_timeout_s * 1000)),
        "ssl.ca.location": kafka.ssl_cafile,
        "ssl.certificate.location": kafka.ssl_certfile,
        "ssl.key.location": kafka.ssl_keyfile or kafka.ssl_certfile,
        "ssl.key.password": _revealed(kafka.ssl_keyfile_password),
    }
    if _uses_tls(kafka):
        options["ssl.endpoint.identification.algorithm"] = "https" if kafka.ssl_check_hostname else "none"
    if _uses_sasl(kafka):
        options |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": _revealed(kafka.sasl_password),
        }
    return {name: value for name, value in options.items() if value is not None}


def _uses_tls(kafka: Kafka) -> bool:
    return kafka.security_protocol in ("SSL", "SASL_SSL")


def _uses_sasl(kafka: Kafka) -> bool:
    return kafka.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()
