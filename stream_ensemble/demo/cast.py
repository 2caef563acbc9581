"""The processes of the demo: each one started as a user would start it, none left behind."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stream_ensemble.config import Settings
from stream_ensemble.demo.model_worker import READY
from stream_ensemble.demo.scenario import FAULT_AT, FAULTY, MEMBERS, Plan
from stream_ensemble.embedded.ports import free_port
from stream_ensemble.embedded.process import ChildProcess
from stream_ensemble.errors import StreamEnsembleError

_START_S = 60.0
_POLL_S = 0.1
_SHOWN_LINES = 12


class CastError(StreamEnsembleError):
    """A process of the demo ended, or did not get ready; the message shows the end of its log."""


class Cast:
    """Starts, watches and ends the demo's processes. Use in ``with``.

    Args:
        folder: where ``ensemble.toml`` stands and the logs go.
    """

    def __init__(self, plan: Plan, settings: Settings, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._partitions = next(iter(settings.ensembles.values())).partitions
        self._processes: dict[str, ChildProcess] = {}
        self._ports = {"fuse": free_port(), "learn": free_port()}
        self._environment = {
            **os.environ,
            "STREAM_ENSEMBLE_CONFIG": str(folder / "ensemble.toml"),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()

    def start_workers(self) -> None:
        """The two Faust workers and the five models."""
        for role in ("fuse", "learn"):
            command = [sys.executable, "-m", "faust", "-A", f"stream_ensemble.{role}", "worker"]
            self._start(role, [*command, "-l", "info", "--web-port", str(self._ports[role])])
        for member in MEMBERS:
            self.start_member(member)

    def start_member(self, member: str) -> None:
        """One model worker; also after it was killed."""
        command = [sys.executable, "-m", "stream_ensemble.demo.model_worker", member]
        if member == FAULTY:
            command += ["--corrupt-from", str(self._plan.number_at(FAULT_AT))]
        self._start(member, command)

    def kill_member(self, member: str) -> None:
        """SIGKILL."""
        self._processes.pop(member).kill()

    def start_stream(self) -> None:
        """The requests and, later, their labels."""
        run = ["--requests", str(self._plan.requests), "--seconds", str(self._plan.seconds)]
        run += ["--seed", str(self._plan.seed)]
        for name in ("labels", "requests"):
            self._start(name, [sys.executable, "-m", f"stream_ensemble.demo.{name}", *run])

    def wait_ready(self, say: Callable[[str], None]) -> None:
        """Until the workers own all partitions and the models answer.

        Raises:
            CastError: somebody ended, or is not ready after a minute.
        """
        deadline = time.monotonic() + _START_S
        waiting = {"fuse", "learn", *MEMBERS}
        while waiting:
            self.check()
            for name in sorted(waiting):
                if self._is_ready(name):
                    waiting.discard(name)
                    say(f"{name} is ready")
            if time.monotonic() > deadline:
                raise CastError(
                    f"not ready after {_START_S:g} s: {sorted(waiting)}\n{self._tail(min(waiting))}"
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raises CastError when a process ended that should not have."""
        for name, process in self._processes.items():
            code = process.returncode
            if code is None or (name == "requests" and code == 0):
                continue
            raise CastError(f"{name} ended with {code}. The end of {process.log_file}:\n{self._tail(name)}")

    def all_asked(self) -> bool:
        """Have all requests been published?"""
        return self._processes["requests"].returncode == 0

    def stop(self) -> None:
        """SIGTERM to all, so that each finishes and commits what it holds."""
        with ThreadPoolExecutor() as pool:
            for names in (("requests", "labels", *MEMBERS), ("fuse", "learn")):
                going = [self._processes.pop(name) for name in names if name in self._processes]
                list(pool.map(ChildProcess.stop, going))

    def _start(self, name: str, command: list[str]) -> None:
        environment = {
            **self._environment,
            "STREAM_ENSEMBLE__WORKER__DATA_DIR": str(self._folder / "data" / name),
        }
        self._processes[name] = ChildProcess(name, command, self._folder / f"{name}.log", env=environment)

    def _is_ready(self, name: str) -> bool:
        if name in MEMBERS:
            return READY in self._processes[name].output()
        health = _asked(f"http://127.0.0.1:{self._ports[name]}/health")
        return health is not None and len(health.get("partitions", ())) == self._partitions

    def _tail(self, name: str) -> str:
        return "\n".join(self._processes[name].output().splitlines()[-_SHOWN_LINES:])


def _asked(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, OSError, ValueError):
        return None
