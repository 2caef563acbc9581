"""The fuse and learn workers of a run: each in a slot with a disk of its own, watched over as an operator
would, who starts again what has ended by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from typing import Literal, NamedTuple

from stream_ensemble import config
from tests.integration.fuser_world import Worker

App = Literal["fuse", "learn"]

_LAUNCHER = Path(__file__).with_name("skewed.py")
_WATCH_S = 0.5
_TERM_S = 25.0


class Ended(NamedTuple):
    """A worker that ended although nobody told it to."""

    slot: str
    status: int
    said: str


class Slot:
    """Where one worker runs, from one process to the next; ``busy`` is held by the fault at work on it."""

    def __init__(self, app: App, number: int, settings: config.Settings, folder: Path) -> None:
        self.app = app
        self.name = f"{app}{number}"
        self.folder = folder / self.name
        self.busy = asyncio.Lock()
        self.worker: Worker | None = None
        self._settings = settings
        self._log_before = 0

    def start(self, skew_s: float = 0.0, jump_after_s: float = 0.0) -> None:
        """A new process on the same disk; its clock jumps by ``skew_s`` after ``jump_after_s``."""
        skewed = (str(_LAUNCHER), f"{skew_s}", f"{jump_after_s}")
        launcher = skewed if skew_s else ("-m", "faust")
        self._log_before = self._log_size()
        self.worker = Worker(self._settings, self.folder, self.app, launcher)

    async def kill(self) -> None:
        """SIGKILL."""
        worker, self.worker = self.worker, None
        if worker is not None:
            await asyncio.to_thread(worker.process.kill)

    async def term(self) -> int:
        """SIGTERM; returns the exit status. A process that is still starting has nothing to end in order:
        Python's way of ending, while it imports, and that without a broker to begin with count as one.
        """
        worker, self.worker = self.worker, None
        if worker is None:
            return 0
        starting = b"Worker]: Ready" not in self._said()
        status = await asyncio.to_thread(worker.process.stop, _TERM_S)
        return 0 if starting and status in (-signal.SIGTERM, 1) else status

    def _log_size(self) -> int:
        log = self.folder / "log.txt"
        return log.stat().st_size if log.exists() else 0

    def _said(self) -> bytes:
        """What the process has said since it was started."""
        log = self.folder / "log.txt"
        if not log.exists():
            return b""
        with log.open("rb") as lines:
            lines.seek(self._log_before)
            return lines.read()

    def pause(self) -> None:
        """SIGSTOP."""
        if self.worker is not None:
            self.worker.process.pause()

    def resume(self) -> None:
        """SIGCONT."""
        if self.worker is not None and self.worker.process.running:
            self.worker.process.resume()

    def delete_disk(self) -> None:
        """All that the worker kept there."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)


class Fleet:
    """All slots of both apps."""

    def __init__(self, settings: config.Settings, folder: Path, fusers: int, learners: int) -> None:
        self._settings, self._folder = settings, folder
        self.slots: list[Slot] = []
        self.ended: list[Ended] = []
        #: Exit statuses after SIGTERM.
        self.terminated: list[tuple[str, int]] = []
        for app, count in (("fuse", fusers), ("learn", learners)):
            for _ in range(count):
                self.add(app)  # type: ignore[arg-type]

    def add(self, app: App) -> Slot:
        """One more slot, not started."""
        slot = Slot(app, len(self.of(app)), self._settings, self._folder)
        self.slots.append(slot)
        return slot

    def of(self, app: App) -> list[Slot]:
        """The slots of one app."""
        return [slot for slot in self.slots if slot.app == app]

    def start(self) -> None:
        """All of them."""
        for slot in self.slots:
            slot.start()

    async def watch(self) -> None:
        """Start again whatever ended by itself, until cancelled."""
        while True:
            await asyncio.sleep(_WATCH_S)
            for slot in self.slots:
                if slot.worker is not None and not slot.worker.process.running and not slot.busy.locked():
                    self._note(slot)
                    slot.start()

    def _note(self, slot: Slot) -> None:
        assert slot.worker is not None
        status = slot.worker.process.returncode
        lines = slot.worker.process.output(20_000).splitlines()
        marks = ("CRITICAL", "Error", "ends and another")
        said = [line for line in lines if any(mark in line for mark in marks)][-6:]
        self.ended.append(Ended(slot.name, -1 if status is None else status, "\n    ".join(said)))

    async def kill_all(self) -> None:
        """End everything."""
        for slot in self.slots:
            await slot.kill()


def ended_in_order(status: int) -> bool:
    """Whether a worker that got SIGTERM ended by itself; 75 says that Kafka was away."""
    return status in (0, os.EX_TEMPFAIL)
