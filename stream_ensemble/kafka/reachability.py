"""Why no broker answers, in a line a person can act on.

aiokafka says only that it could not bootstrap; here each server is asked once more and its own reason kept.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from stream_ensemble.config import Kafka
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.kafka.security import client_options


async def explain_unreachable(kafka: Kafka, timeout_s: float) -> ServerUnavailableError:
    """The error to raise after no server of ``bootstrap_servers`` answered: each with its own reason."""
    reasons = await asyncio.gather(*(_reason(kafka, server, timeout_s) for server in kafka.bootstrap_servers))
    lines = [
        f"Kafka at {server}: {reason}"
        for server, reason in zip(kafka.bootstrap_servers, reasons, strict=True)
    ]
    return ServerUnavailableError("; ".join(lines))


async def _reason(kafka: Kafka, server: str, timeout_s: float) -> str:
    host, _, port = server.rpartition(":")
    options = client_options(kafka)
    options.pop("bootstrap_servers")
    options["request_timeout_ms"] = round(timeout_s * 1000)
    try:
        connection = await create_conn(host.strip("[]"), int(port), **options)
        try:
            await connection.send(MetadataRequest([]))
        finally:
            connection.close()
    except (OSError, EOFError, KafkaError, TimeoutError) as error:
        return _in_words(error, kafka, timeout_s)
    return "answers now, but did not before; try again"


def _in_words(error: BaseException, kafka: Kafka, timeout_s: float) -> str:
    """What the client's error means; the broker's own text is left out, as it may repeat what was sent."""
    speaks = f"does this listener speak {kafka.security_protocol}? (kafka.security_protocol)"
    if isinstance(error, SaslAuthenticationFailed | AuthenticationFailedError):
        return (
            f"refused user {kafka.sasl_username!r} ({kafka.sasl_mechanism}); "
            "check kafka.sasl_username, kafka.sasl_password and kafka.sasl_mechanism"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"does not offer {kafka.sasl_mechanism}; check kafka.sasl_mechanism"
    if isinstance(error, socket.gaierror):
        return "no such host; check kafka.bootstrap_servers"
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not accepted ({error.verify_message}); "
            "check kafka.ssl_cafile and kafka.ssl_check_hostname"
        )
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection; {speaks}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; is it running there? (kafka.bootstrap_servers)"
    if isinstance(error, TimeoutError):
        return f"no answer in {timeout_s:g} s; is it running there, and {speaks}"
    if isinstance(error, OSError) and not isinstance(error, KafkaError) and error.strerror:
        return f"{error.strerror}; check kafka.bootstrap_servers"
    return f"closed the connection; {speaks}"
