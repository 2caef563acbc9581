"""The settings of ``[redis]`` as a client, and what its failures mean in words."""

from __future__ import annotations

import re
import ssl
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from stream_ensemble import config
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.settings import redis_address
from stream_ensemble.settings.redis_address import Node
from stream_ensemble.tls import client_context, tls_files


class NotAClusterError(RedisError):
    """``redis.url`` says cluster, and the server was started without ``cluster-enabled yes``."""


def connect(redis: config.Redis, node: Node | None = None) -> Redis:
    """A client for ``[redis]``; it connects at its first command and answers in bytes.

    Each command waits at most ``timeout_s`` to connect and ``timeout_s`` for its answer, twice: a pooled
    connection that the server has closed meanwhile is replaced once, and then the caller decides. A node of a
    cluster that does not answer is not asked twice, as another may serve in its place.

    Args:
        node: which node of a cluster; absent: the first that ``redis.url`` names.

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
    tls = redis_address.speaks_tls(redis.url)
    if tls:
        options |= _tls(redis)
    if not redis_address.is_cluster(redis.url):
        return Redis.from_url(redis.url, **options)
    host, port = node or redis_address.nodes(redis.url)[0]
    options["retry"] = Retry(NoBackoff(), 1, (RedisConnectionError,))
    return Redis(host=host, port=port, ssl=tls, **options)


def describe(redis: config.Redis) -> str:
    """Where Redis is and as whom we come, without the password: ``me@127.0.0.1:6379/0``."""
    parts = urlsplit(redis.url)
    user = f"{redis.username}@" if redis.username else ""
    tls = " (TLS)" if redis_address.speaks_tls(redis.url) else ""
    cluster = " (cluster)" if redis_address.is_cluster(redis.url) else ""
    return f"{user}{parts.netloc}{parts.path}{cluster}{tls}"


def explain(redis: config.Redis, error: Exception) -> ServerUnavailableError:
    """The error to raise for ``error`` of a client made by ``connect``; its text holds no secret.

    A note of the error, as the node of a cluster it came from, is said too.
    """
    where = ", ".join([describe(redis), *getattr(error, "__notes__", ())])
    return ServerUnavailableError(f"Redis at {where}: {_in_words(redis, error)}")


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
        return f"{_refused(error)}; see the ACL in docs/settings.md"
    if isinstance(error, NotAClusterError):
        return "is not a cluster; write redis:// or rediss:// (redis.url)"
    if isinstance(error, ClusterDownError):
        return "not all hash slots are served; is a node away? (redis-cli --cluster check)"
    if isinstance(error, AskError | MovedError | TryAgainError):
        if redis_address.is_cluster(redis.url):
            return "hash slots are moving between nodes; try again"
        return "is a node of a cluster; write redis+cluster:// or rediss+cluster:// (redis.url)"
    if isinstance(error, BusyLoadingError):
        return "is loading its data; try again"
    if isinstance(error, RedisTimeoutError):
        return f"no answer in {redis.timeout_s:g} s; is it running there? (redis.url)"
    if isinstance(error, ResponseError):
        return "refused the command; is the password missing, or is it a replica? (redis.password, redis.url)"
    reason = _certificate_problem(error)
    return reason or "no connection; is it running there, and does it speak TLS just as redis.url says?"


def _refused(error: NoPermissionError) -> str:
    command = re.search(r"run the '([a-z|]+)' command", str(error))
    return f"the user may not run {command[1]}" if command else "the user lacks a permission"


def _certificate_problem(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted ({error.verify_message}); check redis.ssl_cafile"
        error = error.__cause__ or error.__context__
    return ""
