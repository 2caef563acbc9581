"""The settings of ``[redis]`` as a client, and what its failures mean in words."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.tls import client_context, tls_files


def connect(redis: config.Redis) -> Redis:
    """A client for ``[redis]``; it connects at its first command and answers in bytes.

    Each command waits at most ``timeout_s`` to connect and ``timeout_s`` for its answer, twice: a pooled
    connection that the server has closed meanwhile is replaced once, and then the caller decides.

    Raises:
        SettingsError: a TLS file is missing or cannot be used.
    """
    options: dict[str, Any] = {
        "username": redis.username,
        "password": redis.password.reveal() if redis.password else None,
        "socket_timeout": redis.timeout_s,
        "socket_connect_timeout": redis.timeout_s,
        "retry": Retry(NoBackoff(), 1),
        "client_name": "stream-ensemble",
    }
    if redis.url.startswith("rediss:"):
        options |= _tls(redis)
    return Redis.from_url(redis.url, **options)


def describe(redis: config.Redis) -> str:
    """Where Redis is and as whom we come, without the password: ``me@127.0.0.1:6379/0``."""
    parts = urlsplit(redis.url)
    user = f"{redis.username}@" if redis.username else ""
    tls = " (TLS)" if parts.scheme == "rediss" else ""
    return f"{user}{parts.netloc}{parts.path}{tls}"


def explain(redis: config.Redis, error: Exception) -> ServerUnavailableError:
    """The error to raise for ``error`` of a client made by ``connect``; its text holds no secret."""
    return ServerUnavailableError(f"Redis at {describe(redis)}: {_in_words(redis, error)}")


def _tls(redis: config.Redis) -> dict[str, Any]:
    client_context(tls_files(redis))  # The library reads the files at each connection, and words it badly.
    return {
        "ssl_ca_certs": redis.ssl_cafile,
        "ssl_certfile": redis.ssl_certfile,
        "ssl_keyfile": redis.ssl_keyfile or redis.ssl_certfile,
        "ssl_check_hostname": redis.ssl_check_hostname,
    }


def _in_words(redis: config.Redis, error: Exception) -> str:
    """The server's own text is left out: it may repeat what was sent."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return "refused the user or password; check redis.username and redis.password"
    if isinstance(error, NoPermissionError):
        return "the user lacks a permission; see the ACL in docs/settings.md"
    if isinstance(error, BusyLoadingError):
        return "is loading its data; try again"
    if isinstance(error, RedisTimeoutError):
        return f"no answer in {redis.timeout_s:g} s; is it running there? (redis.url)"
    if isinstance(error, ResponseError):
        return "refused the command; is the password missing, or is it a replica? (redis.password, redis.url)"
    reason = _certificate_problem(error)
    return reason or "no connection; is it running there, and does it speak TLS just as redis.url says?"


def _certificate_problem(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({error.verify_message}); check redis.ssl_cafile"
        error = error.__cause__ or error.__context__
    return ""
