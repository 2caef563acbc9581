"""A child process that cannot outlive its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

from stream_ensemble.embedded.errors import EmbeddedServerError

# The shell becomes the program, after forking a watchdog that holds the other end of a pipe of ours. The
# kernel closes our end however we die, so the watchdog reads our word that all is done or the end of file.
# PR_SET_PDEATHSIG would need no watchdog, but follows the thread that started the child, not the process.
_LAUNCH = """
exec 3<&0 </dev/null
(read -r word <&3 || kill -9 $$) &
exec 3<&-
exec "$@"
"""
_DONE = b"done\n"
_KILL_TIMEOUT_S = 10.0


class ChildProcess:
    """One run of a program, in a session of its own (so that Ctrl-C in a terminal reaches the parent alone).

    It is killed when the parent ends in whatever way, or when this object is collected.

    Args:
        name: what messages call it.
        argv: the program's path and its arguments.
        log_file: standard output and standard error are appended to it.
        cwd: working directory; absent: the parent's.
        env: environment; absent: the parent's.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log_file: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_file = log_file
        try:
            with log_file.open("ab") as log:
                self._log_start = log.tell()
                self._popen = subprocess.Popen(
                    ["/bin/sh", "-c", _LAUNCH, "sh", *map(str, argv)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    env=env,
                    start_new_session=True,
                )
        except OSError as error:
            raise EmbeddedServerError(f"{name} cannot be started: {error}") from error
        self._finalizer = weakref.finalize(self, _end, self._popen, os.getpid())

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal's number; None while it runs."""
        status = self._popen.poll()
        if status is not None:
            # From here on its pid may become another's: the watchdog must not keep it.
            self._finalizer()
        return status

    @property
    def running(self) -> bool:
        return self.returncode is None

    def wait(self, timeout_s: float) -> int:
        """Waits for its end and returns the exit status.

        Raises:
            TimeoutError: it runs on after ``timeout_s``.
        """
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} (pid {self.pid}) runs on after {timeout_s} s") from None

    def stop(self, timeout_s: float = 10.0) -> int:
        """Asks it to end (SIGTERM), kills it after ``timeout_s``, and returns the exit status."""
        self.resume()
        self._popen.terminate()
        try:
            status = self.wait(timeout_s)
        except TimeoutError:
            return self.kill()
        self._finalizer()
        return status

    def kill(self) -> int:
        """SIGKILL; returns the exit status once it is gone."""
        self._finalizer()
        return self.wait(_KILL_TIMEOUT_S)

    def pause(self) -> None:
        """Stops it where it is (SIGSTOP): alive, but doing nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused one go on (SIGCONT)."""
        self._popen.send_signal(signal.SIGCONT)

    def output(self, max_bytes: int = 8192) -> str:
        """The end of what this run wrote to its log file."""
        with self.log_file.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - max_bytes))
            return log.read().decode(errors="replace")


def _end(popen: subprocess.Popen[bytes], owner_pid: int) -> None:
    if os.getpid() != owner_pid:  # a fork of the owner, whose own child this is not
        return
    popen.kill()
    popen.wait(_KILL_TIMEOUT_S)
    assert popen.stdin is not None
    try:
        popen.stdin.write(_DONE)
        popen.stdin.close()
    except BrokenPipeError:
        pass  # the watchdog was killed; it has nothing left to do
