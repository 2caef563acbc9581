"""Jars: fetched once, checked against the lock, fetched again when damaged."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from stream_ensemble.embedded import kafka_jars
from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka_jars import LockedJar, class_path, locked_jars


class Repository:
    """Stands in for jgo: serves the bytes each jar should have, or what a test puts in their place."""

    def __init__(self) -> None:
        self.served: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.offline = False

    def context(self, repo_cache: Path, timeout: int) -> Repository:
        self.cache = repo_cache
        return self

    def project(self, group: str, name: str) -> Artifact:
        return Artifact(self, name)


class Artifact:
    def __init__(self, repository: Repository, name: str) -> None:
        self.repository = repository
        self.name = name

    def at_version(self, version: str) -> Artifact:
        return self

    def artifact(self) -> Artifact:
        return self

    def resolve(self) -> Path:
        jar = self.repository.cache / f"{self.name}.jar"
        if not jar.exists():
            if self.repository.offline:
                raise ConnectionError("no route")
            jar.parent.mkdir(parents=True, exist_ok=True)
            jar.write_bytes(self.repository.served[self.name])
            self.repository.fetched.append(self.name)
        return jar


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Repository:
    repository = Repository()
    repository.served = {"a": b"jar a", "b": b"jar b"}
    lock = [
        LockedJar("org", name, "1", hashlib.sha256(jar).hexdigest())
        for name, jar in repository.served.items()
    ]
    module = ModuleType("jgo.maven")
    module.MavenContext = repository.context  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "jgo.maven", module)
    monkeypatch.setattr(kafka_jars, "locked_jars", lambda: lock)
    return repository


def test_the_lock_names_a_broker_and_one_logging_binding() -> None:
    jars = locked_jars()
    assert "org.apache.kafka:kafka_2.13:4.1.1" in [jar.coordinates for jar in jars]
    assert all(len(jar.sha256) == 64 for jar in jars)
    bindings = [jar.artifact for jar in jars if "slf4j" in jar.artifact and jar.artifact != "slf4j-api"]
    assert bindings == ["log4j-slf4j-impl"]


def test_a_second_call_fetches_nothing(repository: Repository, tmp_path: Path) -> None:
    jars = class_path(tmp_path)
    assert [jar.read_bytes() for jar in jars] == [b"jar a", b"jar b"]
    repository.offline = True
    assert class_path(tmp_path) == jars
    assert sorted(repository.fetched) == ["a", "b"]


def test_a_jar_that_went_or_was_cut_off_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    first, second = class_path(tmp_path)
    first.unlink()
    second.write_bytes(b"jar")
    assert [jar.read_bytes() for jar in class_path(tmp_path)] == [b"jar a", b"jar b"]
    assert sorted(repository.fetched) == ["a", "a", "b", "b"]


def test_a_jar_that_is_not_the_locks_is_refused(repository: Repository, tmp_path: Path) -> None:
    repository.served["b"] = b"something else"
    with pytest.raises(EmbeddedServerError, match=r"org:b:1 .* arrives damaged.*KAFKA_BOOTSTRAP"):
        class_path(tmp_path)


def test_no_network_names_the_coordinates_and_the_way_out(repository: Repository, tmp_path: Path) -> None:
    repository.offline = True
    with pytest.raises(
        EmbeddedServerError, match=r"cannot download org:a:1, .*kafka_2\.13.* KAFKA_BOOTSTRAP"
    ):
        class_path(tmp_path)


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kafka_jars.cache_dir() == tmp_path / "stream-ensemble"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kafka_jars.cache_dir() == Path.home() / ".cache" / "stream-ensemble"
