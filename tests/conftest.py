"""Servers, names and the event loop of the tests. A server that is missing fails the tests that need it."""

from __future__ import annotations

import asyncio
import inspect
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis
from stream_ensemble.embedded.kafka_probe import has_brokers
from tests.redis_cluster import RedisCluster
from tests.servers import redis_answers, remove_topics

TESTS = Path(__file__).parent
REAL_DIRECTORIES = {"integration", "chaos", "e2e"}
SERVER_FIXTURES = {"kafka_bootstrap", "redis_url", "redis_cluster", "any_redis_url"}
ANSWER_TIMEOUT_S = 10.0

# No deadline per example: the machine is shared, and how long an example takes says nothing about the code.
# In CI the examples are the same in each run, so that a red run is the change's own doing.
hypothesis.settings.register_profile(
    "stream-ensemble", deadline=None, derandomize="CI" in os.environ, print_blob=True
)
hypothesis.settings.load_profile("stream-ensemble")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        directory = item.path.relative_to(TESTS).parts[0]
        if directory in REAL_DIRECTORIES or SERVER_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs ``async def`` tests on the ``runner`` their fixtures used, or on one of their own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    shared = pyfuncitem.funcargs.get("runner")
    if shared is not None:
        shared.run(pyfuncitem.obj(**arguments))
    else:
        asyncio.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of one test, for fixtures that have to await something before or after it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def kafka_bootstrap() -> Iterator[str]:
    """``host:port`` of a real Kafka: KAFKA_BOOTSTRAP, or an embedded one for the whole session."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if not given:
        with EmbeddedKafka() as kafka:
            yield kafka.bootstrap
        return
    if not has_brokers({"bootstrap_servers": given}, ANSWER_TIMEOUT_S):
        pytest.fail(f"KAFKA_BOOTSTRAP={given}: no Kafka answers there", pytrace=False)
    yield given


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a real Redis: REDIS_URL, or an embedded one for the whole session."""
    given = os.environ.get("REDIS_URL")
    if not given:
        with EmbeddedRedis() as redis:
            yield redis.url
        return
    if not redis_answers(given, ANSWER_TIMEOUT_S):
        pytest.fail(f"REDIS_URL={given}: no Redis answers there", pytrace=False)
    yield given


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    """A real Redis Cluster of three for the whole session, for tests that do it no harm."""
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(params=["redis", "cluster"])
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """Each test with this runs on a single Redis and on a cluster."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(request.getfixturevalue("redis_cluster").url)


@pytest.fixture
def ensemble_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name no other test uses. Topics that start with it are removed after the test."""
    name = f"e{uuid.uuid4().hex[:12]}"
    yield name
    if "kafka_bootstrap" in request.fixturenames:
        asyncio.run(remove_topics(request.getfixturevalue("kafka_bootstrap"), prefix=f"{name}."))
