"""The embedded Redis: its policy, its password, and what survives."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from stream_ensemble.embedded import EmbeddedRedis

pytestmark = pytest.mark.real


def test_nothing_is_ever_evicted() -> None:
    with EmbeddedRedis() as server, redis.Redis.from_url(server.url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("password", ["plain", 'spaces "quotes" \\ and # ü'])
def test_the_password_opens_and_nothing_else_does(tmp_path: Path, password: str) -> None:
    with EmbeddedRedis(tmp_path, password=password) as server:
        with redis.Redis.from_url(server.url, password=password) as client:
            assert client.ping()
        for wrong in (None, f"{password}x"):
            with (
                redis.Redis.from_url(server.url, password=wrong) as client,
                pytest.raises(redis.AuthenticationError),
            ):
                client.ping()
        command_line = Path(f"/proc/{server.pid}/cmdline")
        if command_line.exists():
            assert password.encode() not in command_line.read_bytes()
    assert (tmp_path / "redis.conf").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("appendonly", [True, False])
def test_data_survives_a_kill_only_in_an_append_only_file(appendonly: bool) -> None:
    with EmbeddedRedis(appendonly=appendonly) as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("weights", "kept")
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("weights") == (b"kept" if appendonly else None)


def test_a_paused_server_answers_nothing_until_it_goes_on() -> None:
    with (
        EmbeddedRedis() as server,
        redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None) as client,
    ):
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
