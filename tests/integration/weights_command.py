"""Runs ``stream-ensemble weights …`` on a test's world while its owners go on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stream_ensemble.cli.main import main
from stream_ensemble.settings_file import dump
from tests.integration import fuser_world, learner_world


class Ran(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class WeightsCommand:
    """``await weights("list", "--json")``: in a thread, for a command has an event loop of its own."""

    def __init__(
        self, world: learner_world.World | fuser_world.World, folder: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self._capfd = capfd
        self._file = folder / "ensemble.toml"
        self._file.write_text(dump(world.settings))

    async def __call__(self, *arguments: str) -> Ran:
        self._capfd.readouterr()
        code = await asyncio.to_thread(main, ["weights", *arguments, "--config", str(self._file)])
        return Ran(code, *self._capfd.readouterr())
