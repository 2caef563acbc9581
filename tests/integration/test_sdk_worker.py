"""ModelWorker on a real Kafka: it answers, survives its model, and commits only what is acknowledged."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stream_ensemble import config
from stream_ensemble.columnar import predictions
from stream_ensemble.errors import ServerUnavailableError
from stream_ensemble.sdk import ModelWorker, PredictionPublisher, Request, RequestPublisher
from stream_ensemble.settings_file import dump
from tests.integration.sdk_topics import (
    RIGHT,
    TRACE,
    committed,
    ends,
    read,
    read_until,
    topics_of,
    write,
)

WAIT_S = 30.0


def group_of(settings: config.Settings) -> str:
    """The consumer group of member a's workers."""
    return f"{settings.app}-model-{next(iter(settings.ensembles))}-a"


@asynccontextmanager
async def serving(worker: ModelWorker) -> AsyncIterator[None]:
    """``worker`` at work inside; afterwards it has been asked to stop and has."""
    task = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        async with asyncio.timeout(WAIT_S):
            await task


async def ask(settings: config.Settings, request_ids: list[str], features: Any = None) -> None:
    async with RequestPublisher(settings, settings.app) as requests:
        await asyncio.gather(*(requests.publish(request_id, features) for request_id in request_ids))


async def answered(settings: config.Settings, count: int) -> list[dict[str, Any]]:
    found = await read(settings, topics_of(settings).predictions[0], count)
    return [json.loads(record.value) for record in found]


def right(batch: list[Request]) -> list[list[float]]:
    return [RIGHT for _ in batch]


async def everything_committed(settings: config.Settings) -> bool:
    topic = topics_of(settings).requests
    return await committed(settings, group_of(settings), topic) == await ends(settings, topic)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await true():  # noqa: ASYNC110  # a broker has no event to wait for
            await asyncio.sleep(0.05)


async def test_a_request_is_answered_with_its_time_segment_and_trace(
    settings: config.Settings, ensemble_name: str
) -> None:
    seen: list[Request] = []

    def predict(batch: list[Request]) -> list[list[float]]:
        seen.extend(batch)
        return right(batch)

    async with serving(ModelWorker(settings, ensemble_name, "a", predict)):
        async with RequestPublisher(settings, ensemble_name) as requests:
            await requests.publish("r", {"x": 1}, at=5, segment="s", deadline_ms=300, traceparent=TRACE)
        (record,) = await read(settings, topics_of(settings).predictions[0], 1)
    assert seen == [
        Request(request_id="r", features={"x": 1}, at=5, segment="s", deadline_ms=300, traceparent=TRACE)
    ]
    assert json.loads(record.value) == {
        "version": 1,
        "kind": "prediction",
        "request_id": "r",
        "member": "a",
        "at": 5,
        "output": RIGHT,
        "segment": "s",
    }
    assert record.headers == (("traceparent", TRACE.encode()),)


async def test_a_batch_may_be_answered_in_columns(settings: config.Settings, ensemble_name: str) -> None:
    def predict(batch: list[Request]) -> list[list[float]]:
        if any(request.features == "bad" for request in batch):
            raise RuntimeError("cannot read it")
        return right(batch)

    async with serving(ModelWorker(settings, ensemble_name, "a", predict, wire="columns")):
        async with RequestPublisher(settings, ensemble_name) as requests:
            await requests.publish("r", {"x": 1}, at=5, segment="s", traceparent=TRACE)
            await requests.publish("bad", "bad", at=6)
        found = await read(settings, topics_of(settings).predictions[0], 2)
    batches = {batch.ids[0]: batch for batch in (predictions.unpack(record.value) for record in found)}
    answer, failed = batches[b"r"], batches[b"bad"]
    assert (answer.member, answer.outputs.tolist(), answer.answers) == ("a", [RIGHT], None)
    assert (answer.segments, answer.traces) == ({0: "s"}, {0: TRACE.encode()})
    assert failed.errors == {0: "RuntimeError: cannot read it"}


async def test_a_request_without_a_time_is_answered_with_its_append_time(
    settings: config.Settings, ensemble_name: str
) -> None:
    async with serving(ModelWorker(settings, ensemble_name, "a", right)):
        await ask(settings, ["r"])
        (answer,) = await answered(settings, 1)
    (request,) = await read(settings, topics_of(settings).requests, 1)
    assert answer["at"] == request.timestamp


async def test_the_worker_goes_on_after_its_model_raised(
    settings: config.Settings, ensemble_name: str
) -> None:
    def predict(batch: list[Request]) -> list[list[float]]:
        if any(request.features == "bad" for request in batch):
            raise RuntimeError("cannot read it")
        return right(batch)

    async with serving(ModelWorker(settings, ensemble_name, "a", predict)):
        await ask(settings, ["before"])
        await ask(settings, ["bad"], "bad")
        await ask(settings, ["after"])
        by_id = {answer["request_id"]: answer for answer in await answered(settings, 3)}
    assert by_id["bad"]["error"] == "RuntimeError: cannot read it"
    assert by_id["before"]["output"] == by_id["after"]["output"] == RIGHT


async def test_what_is_no_request_and_what_asks_others_is_passed_over(
    settings: config.Settings, ensemble_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic = topics_of(settings).requests
    broken = [b"not json", b"", b'{"version":2,"kind":"request","request_id":"r"}', b"[" * 5000]
    await write(settings, topic, [("k", value) for value in broken])
    async with RequestPublisher(settings, ensemble_name) as requests:
        await requests.publish("others", members=["b"])
    async with serving(ModelWorker(settings, ensemble_name, "a", right)):
        await ask(settings, ["last"])
        assert [answer["request_id"] for answer in await answered(settings, 1)] == ["last"]
    assert await everything_committed(settings)
    assert caplog.text.count(f"skipped {topic}-") == len(broken)


async def test_a_batch_is_never_larger_than_asked_for(settings: config.Settings, ensemble_name: str) -> None:
    sizes: list[int] = []

    def predict(batch: list[Request]) -> list[list[float]]:
        sizes.append(len(batch))
        return right(batch)

    await ask(settings, [f"r{row}" for row in range(100)])
    async with serving(ModelWorker(settings, ensemble_name, "a", predict, max_batch=7)):
        await answered(settings, 100)
    assert max(sizes) == 7
    assert sum(sizes) == 100


async def test_nothing_is_committed_before_the_answers_are_acknowledged(
    settings: config.Settings, ensemble_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    published, acknowledge = asyncio.Event(), asyncio.Event()
    send = PredictionPublisher.send

    async def held(self: PredictionPublisher, *arguments: Any, **named: Any) -> None:
        await send(self, *arguments, **named)
        published.set()
        await acknowledge.wait()

    monkeypatch.setattr(PredictionPublisher, "send", held)
    async with serving(ModelWorker(settings, ensemble_name, "a", right)):
        await ask(settings, ["r"])
        async with asyncio.timeout(WAIT_S):
            await published.wait()
        group = await committed(settings, group_of(settings), topics_of(settings).requests)
        assert set(group.values()) == {0}
        acknowledge.set()
    assert await everything_committed(settings)


async def test_publishing_that_fails_for_now_is_tried_again(
    settings: config.Settings, ensemble_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = PredictionPublisher.send
    failures = iter([ServerUnavailableError("away"), ServerUnavailableError("still away")])

    async def flaky(self: PredictionPublisher, *arguments: Any, **named: Any) -> None:
        for error in failures:
            raise error
        await send(self, *arguments, **named)

    monkeypatch.setattr(PredictionPublisher, "send", flaky)
    async with serving(ModelWorker(settings, ensemble_name, "a", right)):
        await ask(settings, ["r"])
        assert len(await answered(settings, 1)) == 1
    assert await everything_committed(settings)


async def test_a_worker_joining_or_leaving_makes_nobody_answer_twice(
    settings: config.Settings, ensemble_name: str
) -> None:
    ids = [f"r{row}" for row in range(300)]

    async def slowly(batch: list[Request]) -> list[list[float]]:
        await asyncio.sleep(0.01)
        return right(batch)

    def worker() -> ModelWorker:
        return ModelWorker(settings, ensemble_name, "a", slowly, max_batch=5)

    async with serving(worker()):
        await ask(settings, ids[:100])
        async with serving(worker()):
            await ask(settings, ids[100:200])
        await ask(settings, ids[200:])
        found = await answered(settings, 300)
    assert Counter(answer["request_id"] for answer in found) == Counter(ids)
    assert await everything_committed(settings)


async def test_a_new_member_begins_at_the_lateness_horizon_and_the_beginning_only_if_asked(
    settings: config.Settings, ensemble_name: str
) -> None:
    short = config.Settings(
        app=settings.app,
        kafka=settings.kafka,
        ensembles={
            ensemble_name: config.Ensemble(
                members=["a", "b"],
                task=settings.ensembles[ensemble_name].task,
                lateness_horizon_s=0.001,
            )
        },
    )
    await ask(settings, ["old"])
    async with serving(ModelWorker(short, ensemble_name, "a", right)):
        await until(lambda: everything_committed(settings))
        await ask(settings, ["new"])
        assert [answer["request_id"] for answer in await answered(settings, 1)] == ["new"]
    async with serving(ModelWorker(short, ensemble_name, "b", right, from_beginning=True)):
        found = await read(settings, topics_of(settings).predictions[1], 2)
    assert {json.loads(record.value)["request_id"] for record in found} == {"old", "new"}


WORKER_PROCESS = """
import os, signal, sys, time
from stream_ensemble import ModelWorker
from stream_ensemble.sdk.consuming import TopicReader
from stream_ensemble.settings_file import load

def predict(batch):
    print("predicting", flush=True)
    time.sleep(float(sys.argv[2]))
    return [[0.5, 0.25, 0.25] for _ in batch]

async def killed(self, offsets):
    os.kill(os.getpid(), signal.SIGKILL)

if "die-before-commit" in sys.argv:
    TopicReader.commit = killed
ModelWorker(load(), sys.argv[1], "a", predict).run()
"""


@asynccontextmanager
async def worker_process(
    settings: config.Settings, directory: Path, *arguments: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    file = directory / "ensemble.toml"
    file.write_text(dump(settings))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER_PROCESS, settings.app, *arguments,
        env=os.environ | {"STREAM_ENSEMBLE_CONFIG": str(file)},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_S):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_worker_killed_between_publishing_and_committing_answers_again_and_loses_nothing(
    settings: config.Settings, ensemble_name: str, tmp_path: Path
) -> None:
    await ask(settings, ["r"])
    async with worker_process(settings, tmp_path, "0", "die-before-commit") as process:
        assert await process.wait() == -signal.SIGKILL
    assert len(await answered(settings, 1)) == 1
    assert not await everything_committed(settings)
    async with serving(ModelWorker(settings, ensemble_name, "a", right)):
        again = await answered(settings, 2)
    assert [answer["request_id"] for answer in again] == ["r", "r"]
    assert await everything_committed(settings)


async def test_sigterm_lets_the_batch_in_hand_be_published_and_committed(
    settings: config.Settings, tmp_path: Path
) -> None:
    await ask(settings, ["r"])
    async with worker_process(settings, tmp_path, "0.5") as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"predicting\n"
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    found = await read_until(settings, topics_of(settings).predictions[0], lambda found: len(found) > 0)
    assert [record.key for record in found] == [b"r"]
    assert await everything_committed(settings)
