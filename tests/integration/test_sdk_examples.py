"""The examples and the code in docs/sdk.md run as they stand, as processes, on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream_ensemble import config
from stream_ensemble.settings_file import dump
from tests.integration.sdk_topics import (
    CLASSES,
    committed,
    fused_value,
    make_topics,
    read,
    settings_of,
    topics_of,
    write,
)

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
EXAMPLES = {
    "model-worker": "model_worker.py",
    "request": "ask.py",
    "feedback": "send_feedback.py",
    "fused": "read_fused.py",
}


def documented() -> dict[str, str]:
    """The code blocks of docs/sdk.md by the name behind their language."""
    text = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^```python ([a-z-]+)\n(.*?)^```$", text, re.M | re.S))


def shown() -> dict[str, str]:
    return {name: (ROOT / "examples" / file).read_text(encoding="utf-8") for name, file in EXAMPLES.items()}


@pytest.fixture
def settings(kafka_bootstrap: str, ensemble_name: str, runner: asyncio.Runner) -> config.Settings:
    """The ensemble the texts speak of, in topics of this test's own."""
    plain = settings_of(kafka_bootstrap, ensemble_name)
    patterns = msgspec.structs.asdict(config.Topics())
    topics = {name: text.replace("{ensemble}", ensemble_name) for name, text in patterns.items()}
    example = config.Ensemble(
        members=["forest", "network", "neighbours"],
        task=config.Task(classes=CLASSES),
        topics=config.Topics(**topics),
    )
    made = msgspec.structs.replace(plain, ensembles={"example": example})
    runner.run(make_topics(made))
    return made


class Scripts:
    """Runs texts as Python programs that find ``settings`` where a user's would."""

    def __init__(self, texts: dict[str, str], settings: config.Settings, directory: Path) -> None:
        (directory / "ensemble.toml").write_text(dump(settings))
        self._texts = texts
        self._directory = directory

    @asynccontextmanager
    async def running(self, name: str, *arguments: str) -> AsyncIterator[Process]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self._texts[name], *arguments,
            cwd=self._directory, env=os.environ | {"PYTHONPATH": path}, stdout=PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(WAIT_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, name: str, *arguments: str) -> str:
        async with self.running(name, *arguments) as process:
            out, _ = await process.communicate()
        assert process.returncode == 0
        return out.decode()


@pytest.mark.parametrize("texts", [shown, documented])
async def test_a_request_is_asked_answered_and_labelled(
    texts: Any, settings: config.Settings, tmp_path: Path
) -> None:
    scripts, topics = Scripts(texts(), settings, tmp_path), topics_of(settings)
    async with scripts.running("model-worker") as worker:
        await scripts.run("request")
        asked = {record.key for record in await read(settings, topics.requests, 1)}
        answered = await read(settings, topics.predictions[0], len(asked))
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
    assert {record.key for record in answered} == asked
    for record in answered:
        output = json.loads(record.value)["output"]
        assert len(output) == 3
        assert sum(output) == pytest.approx(1)
    await scripts.run("feedback", "order-17", "cat")
    (label,) = await read(settings, topics.feedback, 1)
    assert (label.key, json.loads(label.value)["label"]) == (b"order-17", "cat")


@pytest.mark.parametrize("texts", [shown, documented])
async def test_a_fused_record_is_printed(texts: Any, settings: config.Settings, tmp_path: Path) -> None:
    topics = topics_of(settings)
    group = "read-fused" if texts is shown else "my-service"
    async with Scripts(texts(), settings, tmp_path).running("fused") as reader:
        # The group has offsets as soon as it has its partitions; what is written from then on is read.
        while len(await committed(settings, group, topics.fused)) < settings.ensembles["example"].partitions:
            assert reader.returncode is None
        await write(settings, topics.fused, [("r", fused_value("r"))])
        assert reader.stdout is not None
        assert await reader.stdout.readline() == b"r complete cat [0.5, 0.25, 0.25]\n"


async def test_predictions_from_elsewhere_are_published(settings: config.Settings, tmp_path: Path) -> None:
    await Scripts(documented(), settings, tmp_path).run("predictions")
    found = await read(settings, topics_of(settings).predictions[1], 5)
    assert {record.key for record in found} == {b"order-%d" % number for number in range(17, 22)}


def test_every_class_of_the_sdk_is_shown_to_the_reader() -> None:
    text = "".join(documented().values())
    for name in (
        "ModelWorker",
        "PredictionPublisher",
        "RequestPublisher",
        "FeedbackPublisher",
        "FusedConsumer",
    ):
        assert f"{name}(load(), " in text
