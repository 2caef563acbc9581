"""What about a Redis server, or any node of a cluster, would lose or refuse weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redis.exceptions import NoPermissionError, RedisError

from stream_ensemble import config
from stream_ensemble.config import Settings
from stream_ensemble.findings import Finding
from stream_ensemble.settings import redis_address
from stream_ensemble.settings.redis_address import Node
from stream_ensemble.stores import redis_permissions
from stream_ensemble.stores.redis_cluster_state import examine_state, primaries
from stream_ensemble.stores.redis_connection import connect, describe, explain
from stream_ensemble.stores.redis_keys import RedisKeys


async def examine(settings: Settings) -> list[Finding]:
    """Everything wrong with the server or the cluster, errors first; one error where it cannot be reached.

    Raises:
        SettingsError: a TLS file cannot be used.
    """
    redis = settings.redis
    keys = RedisKeys(settings.app, next(iter(settings.ensembles)))
    if not redis_address.is_cluster(redis.url):
        return await _examine_server(redis, None, keys)
    try:
        nodes = await primaries(redis)
    except (RedisError, OSError) as error:
        return [_unreachable(redis, error)]
    findings = await examine_state(redis, nodes)
    for node in nodes:
        findings += await _examine_server(redis, node, keys)
    return findings


async def _examine_server(redis: config.Redis, node: Node | None, keys: RedisKeys) -> list[Finding]:
    client = connect(redis, node)
    subject = f"redis {node or describe(redis)}"
    findings: list[Finding] = []
    try:
        lacking = await redis_permissions.lacking(redis, node, keys)
        if lacking:
            findings.append(_lacks(subject, redis.username, lacking))
        await client.ping()
        findings += _findings(subject, await client.info(), in_cluster=node is not None)
    except NoPermissionError as error:
        if "client|" in str(error):
            findings.append(_unreachable(redis, error))  # refused while connecting
        else:
            findings.append(_info_is_not_permitted(subject, redis.username))
    except (RedisError, OSError) as error:
        if node is not None:
            error.add_note(f"node {node}")
        findings.append(_unreachable(redis, error))
    finally:
        await client.aclose()
    return findings


def _findings(subject: str, facts: Mapping[str, object], *, in_cluster: bool) -> Iterator[Finding]:
    policy = facts.get("maxmemory_policy")
    if policy != "noeviction":
        yield Finding(
            level="error",
            subject=subject,
            problem=f"maxmemory-policy is {policy}, so weights may be evicted; expected noeviction",
            repair="redis-cli CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
        )
    if facts.get("role") != "master":
        yield Finding(
            level="error",
            subject=subject,
            problem=f"is a {facts.get('role')}, which takes no writes",
            repair="set redis.url to the master",
        )
    if facts.get("cluster_enabled") == 1 and not in_cluster:
        yield Finding(
            level="error",
            subject=subject,
            problem="is a node of a Redis Cluster, which refuses what belongs on the other nodes",
            repair="write redis+cluster:// (rediss+cluster:// with TLS) and some of the nodes in redis.url",
        )
    if facts.get("aof_enabled") != 1:
        yield Finding(
            level="warning",
            subject=subject,
            problem="appendonly is off: after a restart weights are away until learners write them again",
            repair="redis-cli CONFIG SET appendonly yes, and the same in redis.conf",
        )


def _lacks(subject: str, user: str | None, lacking: list[str]) -> Finding:
    words = " ".join(lacking)
    return Finding(
        level="error",
        subject=subject,
        problem=f"the user lacks permissions that the workers need: {words}",
        repair=f"ACL SETUSER {user or 'default'} {words}",
    )


def _info_is_not_permitted(subject: str, user: str | None) -> Finding:
    return Finding(
        level="warning",
        subject=subject,
        problem="the user may not run PING or INFO, so maxmemory-policy and persistence are unknown",
        repair=f"ACL SETUSER {user or 'default'} +ping +info",
    )


def _unreachable(redis: config.Redis, error: Exception) -> Finding:
    problem = str(explain(redis, error))
    return Finding(level="error", subject="redis", problem=problem, repair="correct [redis] in the settings")
