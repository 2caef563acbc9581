"""Kafka's class archive: made once, used where it fits, and never in the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from stream_ensemble.embedded import EmbeddedKafka
from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka_archive import make_archive
from stream_ensemble.embedded.kafka_jars import class_path
from stream_ensemble.embedded.kafka_java import class_archive, java_command, java_runtime

pytestmark = pytest.mark.real


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python environment that has no archive yet."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    return tmp_path / "environment"


def test_an_archive_is_made_once_and_kafka_runs_on_it(environment: Path) -> None:
    archive = make_archive()
    assert archive.is_relative_to(environment)
    assert f"-XX:SharedArchiveFile={archive}" in java_command(heap_mb=64, fast_jit=True)
    # With this Java refuses to start where the archive does not fit.
    with EmbeddedKafka(java_options=["-Xshare:on"]) as kafka:
        assert kafka.running
    made = archive.stat().st_mtime_ns
    assert make_archive() == archive
    assert archive.stat().st_mtime_ns == made


def test_a_damaged_archive_is_not_used(environment: Path) -> None:
    archive = class_archive(java_runtime(), class_path())
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"not an archive")
    with EmbeddedKafka() as kafka:
        assert kafka.running


def test_an_environment_that_cannot_be_written_to_is_one_clear_line(environment: Path) -> None:
    environment.write_text("a file, where a directory should be")
    with pytest.raises(EmbeddedServerError, match=r"cannot write .*\.jsa: "):
        make_archive()


def test_the_archive_of_jars_fetched_anew_is_another(tmp_path: Path) -> None:
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"")
    java = java_runtime()
    os.utime(jar, ns=(1, 1))
    before = class_archive(java, [jar])
    assert class_archive(java, [jar]) == before
    os.utime(jar, ns=(2, 2))
    assert class_archive(java, [jar]) != before
