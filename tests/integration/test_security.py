"""One set of settings logs in everywhere: aiokafka, librdkafka, a Faust worker, Redis. No secret is shown."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import confluent_kafka
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis import Redis

from stream_ensemble import settings_file
from stream_ensemble.cli.main import main
from stream_ensemble.config import Settings
from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis
from stream_ensemble.kafka.security import client_options, confluent_options
from stream_ensemble.settings.reference import PAGE
from stream_ensemble.stores.contributions import Change, Key, Marker, Order, Stored
from stream_ensemble.stores.redis_connection import connect, describe
from stream_ensemble.stores.redis_contributions import RedisContributionStore
from stream_ensemble.stores.redis_examination import examine
from stream_ensemble.stores.redis_keys import RedisKeys

USER, PASSWORD = "ensemble", 'pa"ss\\w@rd/%Zq1'
REDIS_PASSWORD, ACL_PASSWORD = "redis-se@cret/Xy", "acl-sec:ret-Wv"
WRONG = "not-the-pässword-Ts9"
#: Their ends, which no way of quoting or escaping changes.
SECRETS = tuple(secret[-4:] for secret in (PASSWORD, REDIS_PASSWORD, ACL_PASSWORD, WRONG))
TOPIC = "digits.fused"
WAIT_S = 30.0


class Servers(NamedTuple):
    kafka: str
    redis: str


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with (
        EmbeddedKafka(sasl=(USER, PASSWORD)) as kafka,
        EmbeddedRedis(password=REDIS_PASSWORD, appendonly=True) as redis,
    ):
        yield Servers(kafka.bootstrap, redis.address)


@pytest.fixture
def environ(servers: Servers, tmp_path: Path) -> dict[str, str]:
    """The environment of a deployment: passwords in files, as Docker's secrets are."""
    for name, secret in (("kafka", PASSWORD), ("redis", REDIS_PASSWORD)):
        (tmp_path / name).write_text(f"{secret}\n", encoding="utf-8")
    return {
        "STREAM_ENSEMBLE__KAFKA__BOOTSTRAP_SERVERS": servers.kafka,
        "STREAM_ENSEMBLE__KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "STREAM_ENSEMBLE__KAFKA__SASL_MECHANISM": "PLAIN",
        "STREAM_ENSEMBLE__KAFKA__SASL_USERNAME": USER,
        "STREAM_ENSEMBLE__KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "kafka"),
        "STREAM_ENSEMBLE__KAFKA__REQUEST_TIMEOUT_S": "10",
        "STREAM_ENSEMBLE__REDIS__URL": f"redis://{servers.redis}/0",
        "STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": str(tmp_path / "redis"),
        "STREAM_ENSEMBLE__ENSEMBLES__digits__MEMBERS": "forest",
        "STREAM_ENSEMBLE__ENSEMBLES__digits__TASK__CLASSES": "no,yes",
    }


@pytest.fixture
def settings(environ: dict[str, str]) -> Settings:
    return settings_file.loads("", environ)


@pytest.fixture
def command(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Callable[..., tuple[int, str]]:
    """Runs a command with all logged; its exit code and all it said, in which no secret stands."""
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)

    def run(*arguments: str, **variables: str) -> tuple[int, str]:
        with monkeypatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            for name, value in variables.items():
                patch.setenv(f"STREAM_ENSEMBLE__{name}", value)
            code = main(arguments)
        said = "".join(capfd.readouterr()) + caplog.text
        assert not any(secret in said for secret in SECRETS)
        return code, said

    return run


@pytest.fixture
def topics(command: Callable[..., tuple[int, str]]) -> None:
    assert command("topics", "create")[0] == 0


@pytest.mark.usefixtures("topics")
def test_check_logs_in_to_both_servers(command: Callable[..., tuple[int, str]]) -> None:
    code, said = command("check", "--connect")
    assert code == 0
    assert "settings, topics and servers of digits: all well" in said


@pytest.mark.usefixtures("topics")
async def test_aiokafka_publishes_and_librdkafka_reads_and_the_other_way_round(settings: Settings) -> None:
    options = client_options(settings.kafka)
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(TOPIC, b"from aiokafka", partition=0)
    publisher = confluent_kafka.Producer(confluent_options(settings.kafka))
    publisher.produce(TOPIC, b"from librdkafka", partition=1)
    assert publisher.flush(WAIT_S) == 0

    reader = confluent_kafka.Consumer(
        confluent_options(settings.kafka) | {"group.id": "rd", "auto.offset.reset": "earliest"}
    )
    reader.assign([confluent_kafka.TopicPartition(TOPIC, 0, 0)])
    message = reader.poll(WAIT_S)
    reader.close()
    assert message is not None
    assert message.value() == b"from aiokafka"
    async with AIOKafkaConsumer(TOPIC, **options, auto_offset_reset="earliest") as consumer:
        values = [(await consumer.getone()).value for _ in range(2)]
    assert b"from librdkafka" in values


FAUST_APP = """
import os, signal
import faust
from stream_ensemble import settings_file
from stream_ensemble.kafka.security import faust_options

settings = settings_file.loads("", os.environ)
print(settings)
app = faust.App(
    "reader",
    **faust_options(settings.kafka),
    topic_disable_leader=True,
    topic_allow_declare=False,
    value_serializer="raw",
    web_enabled=False,
)

@app.agent(app.topic("digits.feedback"))
async def read(stream):
    async for value in stream:
        print(f"read {value} as {app.conf.broker_credentials}", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.usefixtures("topics")
def test_a_faust_worker_reads_what_was_published(
    settings: Settings, environ: dict[str, str], tmp_path: Path
) -> None:
    publisher = confluent_kafka.Producer(confluent_options(settings.kafka))
    publisher.produce("digits.feedback", b"for faust")
    assert publisher.flush(WAIT_S) == 0
    (tmp_path / "reader.py").write_text(FAUST_APP)
    worker = [
        sys.executable,
        "-m",
        "faust",
        "-A",
        "reader",
        "--datadir",
        str(tmp_path),
        "worker",
        "-l",
        "debug",
    ]
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        worker,
        cwd=tmp_path,
        env=os.environ | environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    assert "read b'for faust' as <SASLCredentials: username=ensemble>" in said
    assert not any(secret in said for secret in SECRETS)


def test_a_wrong_kafka_password_is_one_line_that_names_the_settings(
    command: Callable[..., tuple[int, str]],
) -> None:
    wrong = {"KAFKA__SASL_PASSWORD": WRONG, "KAFKA__SASL_PASSWORD_FILE": ""}
    code, said = command("topics", "create", **wrong)
    assert code == 1
    assert "refused user 'ensemble' (PLAIN); check kafka.sasl_username, kafka.sasl_password" in said
    code, said = command("check", "--connect", "--json", **wrong)
    assert code == 1
    assert "refused user 'ensemble' (PLAIN)" in said


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"SASL_MECHANISM": "SCRAM-SHA-256"}, "does not offer SCRAM-SHA-256; check kafka.sasl_mechanism"),
        (
            {
                "SECURITY_PROTOCOL": "PLAINTEXT",
                "SASL_MECHANISM": "",
                "SASL_USERNAME": "",
                "SASL_PASSWORD_FILE": "",
            },
            "does this listener speak PLAINTEXT? (kafka.security_protocol)",
        ),
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "does this listener speak SASL_SSL? (kafka.security_protocol)"),
    ],
)
def test_a_listener_that_speaks_otherwise_is_named(
    command: Callable[..., tuple[int, str]], variables: dict[str, str], reason: str
) -> None:
    code, said = command("topics", "create", **{f"KAFKA__{name}": value for name, value in variables.items()})
    assert code == 1
    assert reason in said


async def test_redis_is_reached_with_its_password_and_as_an_acl_user(
    settings: Settings, environ: dict[str, str], servers: Servers
) -> None:
    client = connect(settings.redis)
    await client.set("key", "value")
    acl = f"~* +@all >{ACL_PASSWORD} on"
    await client.execute_command("ACL", "SETUSER", "worker", *acl.split())
    as_user = environ | {"STREAM_ENSEMBLE__REDIS__URL": f"redis://worker:acl-sec%3Aret-Wv@{servers.redis}/0"}
    del as_user["STREAM_ENSEMBLE__REDIS__PASSWORD_FILE"]
    redis = settings_file.loads("", as_user).redis
    other = connect(redis)
    assert await other.get("key") == b"value"
    assert describe(redis) == f"worker@{servers.redis}/0"
    assert not any(secret in text for secret in SECRETS for text in (repr(redis), repr(other), repr(client)))
    await other.aclose()
    await client.aclose()


@pytest.mark.parametrize("password", [WRONG, ""])
def test_a_wrong_redis_password_is_one_line_that_names_the_settings(
    command: Callable[..., tuple[int, str]], password: str
) -> None:
    wrong = {"REDIS__PASSWORD": password, "REDIS__PASSWORD_FILE": ""}
    code, said = command("check", "--connect", "--json", **wrong)
    assert code == 1
    (finding,) = [
        each for each in json.loads(said[: said.rindex("}") + 1])["findings"] if each["subject"] == "redis"
    ]
    assert "redis.password" in finding["problem"]


@pytest.mark.usefixtures("topics")
def test_an_acl_user_without_info_is_told_what_to_allow(
    command: Callable[..., tuple[int, str]], servers: Servers
) -> None:
    host, port = servers.redis.split(":")
    with Redis(host, int(port), password=REDIS_PASSWORD) as admin:
        (line,) = re.findall(r"^ACL SETUSER APP (.*)$", PAGE.read_text(), flags=re.MULTILINE)
        words = line.replace("PASSWORD", ACL_PASSWORD).replace("APP", "stream-ensemble").split()
        admin.execute_command("ACL", "SETUSER", "narrow", *words, "-ping", "-info")
    narrow = {
        "REDIS__USERNAME": "narrow",
        "REDIS__PASSWORD": ACL_PASSWORD,
        "REDIS__PASSWORD_FILE": "",
    }
    code, said = command("check", "--connect", **narrow)
    assert code == 0
    assert "repair: ACL SETUSER narrow +ping +info" in said


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize(
    ("taken", "named"),
    [
        (["-hset", "-evalsha"], "+hset +evalsha"),
        (["-script", "-unsubscribe"], "+script|load +unsubscribe"),
        (["resetkeys", "~other:*"], "~{stream-ensemble:*"),
        (["resetchannels"], "&{stream-ensemble:*"),
        (["-multi"], "+multi +discard"),
    ],
)
def test_what_an_acl_user_lacks_is_named_with_the_command_that_repairs_it(
    command: Callable[..., tuple[int, str]], servers: Servers, taken: list[str], named: str
) -> None:
    host, port = servers.redis.split(":")
    (line,) = re.findall(r"^ACL SETUSER APP (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    words = line.replace("PASSWORD", ACL_PASSWORD).replace("APP", "stream-ensemble").split()
    as_user = {"REDIS__USERNAME": "lacks", "REDIS__PASSWORD": ACL_PASSWORD, "REDIS__PASSWORD_FILE": ""}
    with Redis(host, int(port), password=REDIS_PASSWORD) as admin:
        admin.execute_command("ACL", "SETUSER", "lacks", "reset", *words, *taken)
        code, said = command("check", "--connect", **as_user)
        assert code == 1
        assert f"lacks permissions that the workers need: {named}\n" in said
        assert f"repair: ACL SETUSER lacks {named}\n" in said
        admin.execute_command("ACL", "SETUSER", "lacks", *named.split())
        assert command("check", "--connect", **as_user)[0] == 0
        assert admin.keys("*check*") == []


async def test_the_acl_of_the_settings_page_is_enough_for_the_workers(
    settings: Settings, environ: dict[str, str], servers: Servers
) -> None:
    (line,) = re.findall(r"^(ACL SETUSER .*)$", PAGE.read_text(), flags=re.MULTILINE)
    app = settings.app
    words = line.replace("PASSWORD", ACL_PASSWORD).replace("APP", app).split()
    admin = connect(settings.redis)
    await admin.execute_command(*words)
    as_worker = {"STREAM_ENSEMBLE__REDIS__USERNAME": app, "STREAM_ENSEMBLE__REDIS__PASSWORD": ACL_PASSWORD}
    redis = settings_file.loads("", environ | as_worker | {"STREAM_ENSEMBLE__REDIS__PASSWORD_FILE": ""}).redis
    keys = RedisKeys(app, "digits")
    store = RedisContributionStore(redis, keys)
    key, order = Key("class"), Order(0, 1, 1)
    heard = store.changes()
    first = asyncio.ensure_future(anext(heard))
    async with asyncio.timeout(WAIT_S):
        # Redis tells nobody that a subscriber has come.
        while not dict(await admin.pubsub_numsub(keys.changed()))[keys.changed().encode()]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await admin.script_flush()
        assert await store.publish(3, [Change(key, order, b"value")]) == [True]
        assert await store.mark(3, Marker(order, complete=True))
        assert await first == 3
    assert (await store.read([key])).fields == {key: {3: Stored(order, b"value")}}
    await admin.hset(keys.weights(key), "3", b"damaged")
    await store.remove_damaged(key, 3)
    assert (await store.own(3, [key])).fields.get(key, {}) == {}
    assert await examine(msgspec.structs.replace(settings, redis=redis)) == []
    await heard.aclose()
    await store.close()
    await admin.aclose()
