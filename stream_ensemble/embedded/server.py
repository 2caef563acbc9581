"""What an embedded Kafka and an embedded Redis have in common: a port, a directory, and being ready."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.ports import HOST, accepts_connections, free_port, require_free
from stream_ensemble.embedded.process import ChildProcess

_POLL_S = 0.02


class EmbeddedServer(ABC):
    """A real server as a child process on the loopback interface. Use it in ``with``, or start() and stop().

    After ``stop()`` or ``kill()``, ``start()`` brings it back with the same data on the same port.

    Args:
        data_dir: where its data and its log stand; absent: a temporary directory, removed with this object.
        port: absent: a free one is chosen.
        start_timeout_s: how long it may take to answer.
    """

    name: ClassVar[str]
    min_free_bytes: ClassVar[int]

    def __init__(self, data_dir: Path | None, *, port: int | None, start_timeout_s: float) -> None:
        self.port = port if port is not None else free_port()
        self._start_timeout_s = start_timeout_s
        self._process: ChildProcess | None = None
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix=f"{self.name.lower()}-"))
            weakref.finalize(self, shutil.rmtree, data_dir, ignore_errors=True)
        self.data_dir = data_dir.absolute()
        self.log_file = self.data_dir / f"{self.name.lower()}.log"

    @property
    def address(self) -> str:
        """``host:port`` it listens on."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> Self:
        """Starts it and returns when it answers.

        Raises:
            EmbeddedServerError: the port is taken, the disk is full, something it needs is not installed,
                or it ended or gave no answer in time.
        """
        if self.running:
            return self
        require_free(self.port, self.name)
        self._require_disk()
        try:
            argv = self._prepare()
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.name} cannot write to {self.data_dir}: {error.strerror}"
            ) from error
        self._process = ChildProcess(self.name, argv, self.log_file, cwd=self.data_dir)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, timeout_s: float = 15.0) -> None:
        """Ends it in its own way; kills it when that takes longer than ``timeout_s``. Data and port stay."""
        if self._process is not None:
            self._process.stop(timeout_s)
            self._process = None

    def kill(self) -> None:
        """Ends it at once, as a crash would. Data and port stay."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> Self:
        """Stops it if it runs and starts it with the same data on the same port."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Freezes it: connections stay open, nothing is answered."""
        self._started().pause()

    def resume(self) -> None:
        """Lets a paused server go on."""
        self._started().resume()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> list[str]:
        """Writes what the server needs into ``data_dir`` and returns its command line."""

    @abstractmethod
    def _answers(self, timeout_s: float) -> bool:
        """Whether it serves requests now. Called only once its port accepts connections."""

    def _started(self) -> ChildProcess:
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} has not been started")
        return self._process

    def _require_disk(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.data_dir).free
        except OSError as error:
            raise EmbeddedServerError(f"{self.name} cannot use {self.data_dir}: {error.strerror}") from error
        if free < self.min_free_bytes:
            raise EmbeddedServerError(
                f"{self.name} needs {self.min_free_bytes >> 20} MB of disk in {self.data_dir}, "
                f"{free >> 20} MB are free: make room or choose another directory"
            )

    def _wait_until_ready(self, process: ChildProcess) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if not process.running:
                raise EmbeddedServerError(
                    f"{self.name} ended while starting (status {process.returncode}): "
                    f"{last_line(process.output())}; its log: {self.log_file}"
                )
            if accepts_connections(self.port) and self._answers(left):
                return
            time.sleep(_POLL_S)
        raise EmbeddedServerError(
            f"{self.name} at {self.address} gave no answer within {self._start_timeout_s:g} s; "
            f"its log: {self.log_file}"
        )


def last_line(text: str) -> str:
    """The last line that says something, without the frames of a Java stack trace."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("at ", "... "))]
    return said[-1] if said else "it said nothing"
