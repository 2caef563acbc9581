"""A cluster behind passwords, ACL users and TLS, and what ``check --connect`` says about clusters."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
from msgspec.structs import replace

from stream_ensemble import config
from stream_ensemble.config import Ensemble, Secret, Settings, Task
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.findings import Finding
from stream_ensemble.settings.reference import PAGE
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_examination import examine
from stream_ensemble.stores.redis_keys import RedisKeys
from tests.behind_tls import CA, FILES, behind_tls
from tests.redis_cluster import RedisCluster

PASSWORD, ACL_PASSWORD = "cluster-p@ss/word", "acl:pass word"
KEYS = [Key("class"), *(Key("class", f"segment {n}") for n in range(12))]
ORDER = Order(0, 1, 1)
APP = "digits-app"


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(password=PASSWORD, appendonly=True) as cluster:
        yield cluster


@pytest.fixture
def user(cluster: RedisCluster) -> str:
    """A user with what the settings page says, on every node."""
    name = f"u{uuid.uuid4().hex[:8]}"
    (line,) = re.findall(r"^ACL SETUSER APP (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    words = [f">{ACL_PASSWORD}" if word == ">PASSWORD" else word for word in line.split()]
    for node in cluster.nodes:
        node.ask("ACL", "SETUSER", name, *(word.replace("APP", APP) for word in words))
    return name


def settings_for(url: str, **changes: object) -> Settings:
    ensemble = Ensemble(members=["a"], task=Task(classes=["no", "yes"]), partitions=1)
    redis = config.Redis(url=url, timeout_s=2, **changes)  # type: ignore[arg-type]
    return Settings(app=APP, redis=redis, ensembles={"digits": ensemble})


def as_user(cluster: RedisCluster, user: str) -> Settings:
    return settings_for(cluster.url, username=user, password=Secret(ACL_PASSWORD))


async def use(settings: Settings) -> None:
    """Everything the workers do with Redis."""
    store = RedisContributionStore(settings.redis, RedisKeys(APP, uuid.uuid4().hex))
    heard = store.changes()
    first = asyncio.ensure_future(anext(heard))
    async with asyncio.timeout(30):
        assert all(await store.publish(3, [Change(key, ORDER, b"value") for key in KEYS]))
        while not first.done():
            assert await store.mark(3, Marker(ORDER, complete=True)) == "written"
            await asyncio.sleep(0.02)
        assert await first == 3
        assert (await store.read(KEYS)).fields == {key: {3: Stored(ORDER, b"value")} for key in KEYS}
        await store.remove_damaged(KEYS[0], 3)
        assert (await store.own(3, KEYS)).markers == {3: Marker(ORDER, complete=True)}
    await heard.aclose()
    await store.close()


async def test_the_acl_of_the_settings_page_is_enough_on_a_cluster(cluster: RedisCluster, user: str) -> None:
    await use(as_user(cluster, user))
    assert await examine(as_user(cluster, user)) == []


async def test_user_and_password_may_stand_in_the_url(cluster: RedisCluster, user: str) -> None:
    at = cluster.url.replace("://", f"://{user}:acl%3Apass%20word@")
    settings = settings_for(at)
    assert ACL_PASSWORD not in repr(settings)
    await use(settings)


async def test_a_cluster_is_reached_through_tls_with_a_certificate(cluster: RedisCluster, user: str) -> None:
    async with AsyncExitStack() as stack:
        ports = [
            await stack.enter_async_context(behind_tls(node.port, "server.pem")) for node in cluster.nodes
        ]
        try:
            for node, port in zip(cluster.nodes, ports, strict=True):
                node.ask("CONFIG SET", "cluster-announce-port", port)
            await until_announced(cluster, ports)
            certificate = str(FILES / "server.pem")
            settings = settings_for(
                f"rediss+cluster://127.0.0.1:{ports[0]}",
                username=user,
                password=Secret(ACL_PASSWORD),
                ssl_cafile=CA,
                ssl_certfile=certificate,
            )
            await use(settings)
            assert await examine(settings) == []
            stranger = replace(settings.redis, ssl_cafile=str(FILES / "other-ca.pem"))
            store = RedisContributionStore(stranger, RedisKeys(APP, "digits"))
            with pytest.raises(ServerUnavailableError, match="certificate is not accepted"):
                await store.markers()
            await store.close()
        finally:
            for node in cluster.nodes:
                node.ask("CONFIG SET", "cluster-announce-port", 0)
            await until_announced(cluster, [node.port for node in cluster.nodes])


async def until_announced(cluster: RedisCluster, ports: list[int]) -> None:
    async with asyncio.timeout(30):
        while any(  # noqa: ASYNC110
            {primary[1] for _, _, primary, *_ in node.ask("CLUSTER SLOTS")} != set(ports)
            for node in cluster.nodes
        ):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": Secret("wrong")}, r"refused the user or password; check redis\.username"),
        ({"password": None}, r"refused the user or password.*redis\.password"),
    ],
)
async def test_a_wrong_password_is_named(
    cluster: RedisCluster, changes: dict[str, object], reason: str
) -> None:
    store = RedisContributionStore(settings_for(cluster.url, **changes).redis, RedisKeys(APP, "digits"))
    with pytest.raises(ServerUnavailableError, match=reason) as caught:
        await store.markers()
    assert "wrong" not in str(caught.value)
    await store.close()


async def test_a_command_missing_on_one_node_is_named_with_its_repair(
    cluster: RedisCluster, user: str
) -> None:
    node = cluster.nodes[1]
    node.ask("ACL", "SETUSER", user, "-hset", "-asking", "resetchannels")
    (finding,) = await examine(as_user(cluster, user))
    lacking = f"+hset &{{{APP}:* +asking"
    assert finding == Finding(
        level="error",
        subject=f"redis {node.address}",
        problem=f"the user lacks permissions that the workers need: {lacking}",
        repair=f"ACL SETUSER {user} {lacking}",
    )


async def test_an_eviction_policy_is_looked_at_on_every_node(cluster: RedisCluster) -> None:
    settings = settings_for(cluster.url, password=Secret(PASSWORD))
    node = cluster.nodes[2]
    node.ask("CONFIG SET", "maxmemory-policy", "allkeys-lru")
    try:
        (finding,) = await examine(settings)
    finally:
        node.ask("CONFIG SET", "maxmemory-policy", "noeviction")
    assert finding.subject == f"redis {node.address}"
    assert finding.problem.startswith("maxmemory-policy is allkeys-lru")
    assert await examine(settings) == []


async def test_a_node_that_is_away_and_the_state_it_leaves_are_named() -> None:
    with RedisCluster(appendonly=True) as cluster:
        dead = cluster.nodes[1]
        dead.kill()
        async with asyncio.timeout(30):
            while cluster.nodes[0].says("cluster_state") == "ok":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        findings = await examine(settings_for(cluster.url))
    state, away = findings
    assert state.level == away.level == "error"
    alive = f"{cluster.nodes[0].address}, {cluster.nodes[2].address}"
    assert state.problem == (
        f"cluster_state is not ok on {alive}: 10923 of 16384 hash slots are served; weights stay as they are"
    )
    assert f"redis-cli --cluster check {cluster.nodes[0].address}" in state.repair
    assert f"node {dead.address}: no connection" in away.problem


async def test_slots_of_no_node_are_named() -> None:
    with RedisCluster(appendonly=True, config={"cluster-require-full-coverage": "no"}) as cluster:
        cluster.nodes[0].ask("CLUSTER DELSLOTS", 0, 1, 2)
        async with asyncio.timeout(30):
            while not (findings := await examine(settings_for(cluster.url))):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert findings[0].problem.startswith("16381 of 16384 hash slots are served, 3 belong to no node")


async def test_one_server_and_a_cluster_are_not_taken_for_each_other(
    cluster: RedisCluster, redis_url: str
) -> None:
    alone = settings_for(redis_url.replace("redis://", "redis+cluster://"))
    (finding,) = await examine(alone)
    assert "is not a cluster; write redis:// or rediss:// (redis.url)" in finding.problem
    member = settings_for(cluster.nodes[0].url, password=Secret(PASSWORD))
    (finding,) = await examine(member)
    assert finding.level == "error"
    assert "write redis+cluster://" in finding.repair
