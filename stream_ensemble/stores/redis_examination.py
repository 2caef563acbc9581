"""What about a Redis server would lose or refuse weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from redis.exceptions import NoPermissionError, RedisError

from stream_ensemble import config
from stream_ensemble.findings import Finding
from stream_ensemble.stores.redis_connection import connect, describe, explain


async def examine(redis: config.Redis) -> list[Finding]:
    """Everything wrong with the server, errors first; one error where it cannot be reached.

    Raises:
        SettingsError: a TLS file cannot be used.
    """
    client = connect(redis)
    subject = f"redis {describe(redis)}"
    try:
        await client.ping()
        facts = await client.info()
    except NoPermissionError:
        return [_info_is_not_permitted(subject, redis.username)]
    except (RedisError, OSError) as error:
        problem = str(explain(redis, error))
        return [
            Finding(level="error", subject="redis", problem=problem, repair="correct [redis] in the settings")
        ]
    finally:
        await client.aclose()
    return list(_findings(subject, facts))


def _findings(subject: str, facts: Mapping[str, object]) -> Iterator[Finding]:
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
    if facts.get("aof_enabled") != 1:
        yield Finding(
            level="warning",
            subject=subject,
            problem="appendonly is off: after a restart weights are away until learners write them again",
            repair="redis-cli CONFIG SET appendonly yes, and the same in redis.conf",
        )


def _info_is_not_permitted(subject: str, user: str | None) -> Finding:
    return Finding(
        level="warning",
        subject=subject,
        problem="the user may not run PING or INFO, so maxmemory-policy and persistence are unknown",
        repair=f"ACL SETUSER {user or 'default'} +ping +info",
    )
