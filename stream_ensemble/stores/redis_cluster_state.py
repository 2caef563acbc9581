"""Whether a Redis Cluster as a whole serves: every hash slot, and every node of one mind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from redis.exceptions import NoPermissionError, RedisError

from stream_ensemble import config
from stream_ensemble.findings import Finding
from stream_ensemble.settings import redis_address
from stream_ensemble.settings.redis_address import Node
from stream_ensemble.stores.redis_connection import connect, describe
from stream_ensemble.stores.redis_topology import SLOTS, read_slots


async def primaries(redis: config.Redis) -> tuple[Node, ...]:
    """The nodes that serve slots, as the nodes in ``redis.url`` know them.

    Raises:
        RedisError, OSError: none of them answers, or they are no cluster.
    """
    seeds = {node: connect(redis, node) for node in redis_address.nodes(redis.url)}
    try:
        return (await read_slots(seeds)).nodes
    finally:
        for client in seeds.values():
            await client.aclose()


async def examine_state(redis: config.Redis, nodes: Sequence[Node]) -> list[Finding]:
    """What the nodes say is wrong with the cluster; a node that cannot be reached says nothing here."""
    subject = f"redis {describe(redis)}"
    said: dict[Node, Mapping[str, str]] = {}
    for node in nodes or redis_address.nodes(redis.url):
        client = connect(redis, node)
        try:
            said[node] = await client.execute_command("CLUSTER INFO")  # type: ignore[no-untyped-call]
        except NoPermissionError:
            return [_not_permitted(subject, redis.username)]
        except (RedisError, OSError):
            continue
        finally:
            await client.aclose()
    return list(_findings(subject, said))


def _findings(subject: str, said: Mapping[Node, Mapping[str, str]]) -> Iterator[Finding]:
    failing = [node for node, facts in said.items() if facts["cluster_state"] != "ok"]
    served = min((int(facts["cluster_slots_ok"]) for facts in said.values()), default=SLOTS)
    assigned = min((int(facts["cluster_slots_assigned"]) for facts in said.values()), default=SLOTS)
    if not failing and assigned == SLOTS:
        return
    state = f"cluster_state is not ok on {', '.join(map(str, failing))}: " if failing else ""
    nobodys = f", {SLOTS - assigned} belong to no node" if assigned < SLOTS else ""
    yield Finding(
        level="error",
        subject=subject,
        problem=f"{state}{served} of {SLOTS} hash slots are served{nobodys}; weights stay as they are",
        repair="start or replace the nodes that are away; "
        f"redis-cli --cluster check {next(iter(said))} names them, --cluster fix gives their slots to others",
    )


def _not_permitted(subject: str, user: str | None) -> Finding:
    return Finding(
        level="warning",
        subject=subject,
        problem="the user may not run CLUSTER INFO, so the state of the cluster is unknown",
        repair=f"ACL SETUSER {user or 'default'} +cluster|info",
    )
