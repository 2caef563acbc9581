"""Child processes: they end with their parent, however it ends."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.ports import free_port, is_free, require_free
from stream_ensemble.embedded.process import ChildProcess

SLEEPER = ["/bin/sh", "-c", "echo started; exec sleep 600"]
STUBBORN = ["/bin/sh", "-c", "trap '' TERM; echo started; while :; do sleep 600 & wait; done"]


def eventually(holds: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Not there, or a zombie that only waits for its parent's notice."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def child(tmp_path: Path) -> ChildProcess:
    process = ChildProcess("sleeper", SLEEPER, tmp_path / "log")
    assert eventually(lambda: "started" in process.output())
    return process


def test_stop_asks_first(child: ChildProcess) -> None:
    assert child.stop() == -signal.SIGTERM
    assert not child.running


def test_stop_kills_one_that_does_not_listen(tmp_path: Path) -> None:
    child = ChildProcess("stubborn", STUBBORN, tmp_path / "log")
    assert eventually(lambda: "started" in child.output())
    assert child.stop(timeout_s=0.2) == -signal.SIGKILL


def test_a_paused_child_can_be_stopped(child: ChildProcess) -> None:
    child.pause()
    assert child.stop() == -signal.SIGTERM


def test_the_exit_status_is_the_programs_own(tmp_path: Path) -> None:
    child = ChildProcess("failing", ["/bin/sh", "-c", "echo why >&2; exit 7"], tmp_path / "log")
    assert child.wait(10) == 7
    assert child.output() == "why\n"


def test_output_is_of_this_run_only(tmp_path: Path) -> None:
    for word in ("first", "second"):
        child = ChildProcess("echo", ["/bin/echo", word], tmp_path / "log")
        child.wait(10)
        assert child.output() == f"{word}\n"
    assert (tmp_path / "log").read_text() == "first\nsecond\n"


def test_waiting_is_bounded(child: ChildProcess) -> None:
    with pytest.raises(TimeoutError, match=r"sleeper .* runs on"):
        child.wait(0.05)
    child.kill()


def test_arguments_reach_the_program_unchanged(tmp_path: Path) -> None:
    arguments = ["a b", "$HOME", "'\"\\", "*", ""]
    code = "import sys; print(sys.argv[1:])"
    child = ChildProcess("echo", [sys.executable, "-c", code, *arguments], tmp_path / "log")
    assert child.wait(10) == 0
    assert child.output().strip() == repr(arguments)


def test_ctrl_c_in_the_terminal_is_not_the_childs(child: ChildProcess) -> None:
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    child.kill()


def test_a_forgotten_child_is_killed(tmp_path: Path) -> None:
    child = ChildProcess("sleeper", SLEEPER, tmp_path / "log")
    pid = child.pid
    del child
    gc.collect()
    assert is_gone(pid)


def test_one_that_crashed_leaves_no_watchdog(child: ChildProcess) -> None:
    [watchdog] = psutil.Process(child.pid).children()
    os.kill(child.pid, signal.SIGKILL)
    assert eventually(lambda: not child.running)
    assert eventually(lambda: is_gone(watchdog.pid))


def test_a_fork_of_the_parent_does_not_end_its_children(child: ChildProcess) -> None:
    fork = os.fork()
    if fork == 0:
        child._finalizer()  # what a fork that exits in the ordinary way runs
        os._exit(0)
    os.waitpid(fork, 0)
    assert child.running
    child.kill()


def test_no_watchdog_stays_behind(child: ChildProcess) -> None:
    [watchdog] = psutil.Process(child.pid).children()
    child.stop()
    assert eventually(lambda: is_gone(watchdog.pid))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None])
def test_a_child_ends_with_its_parent(tmp_path: Path, end: signal.Signals | None) -> None:
    # Started from a thread that ends: the child must follow the process, not the thread.
    code = f"""
import threading, time
from pathlib import Path
from stream_ensemble.embedded.process import ChildProcess
def start():
    global child
    child = ChildProcess("sleeper", {SLEEPER!r}, Path({str(tmp_path / "log")!r}))
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(child.pid, flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)
        if end is not None:
            parent.send_signal(end)
    assert eventually(lambda: is_gone(pid))


def test_a_missing_directory_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"sleeper cannot be started: .*No such file"):
        ChildProcess("sleeper", SLEEPER, tmp_path / "log", cwd=tmp_path / "missing")


def test_a_free_port_is_free_and_a_taken_one_is_named() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        with pytest.raises(EmbeddedServerError, match=rf"^port {port} on 127\.0\.0\.1 is taken, so Kafka"):
            require_free(port, "Kafka")
    require_free(port, "Kafka")
