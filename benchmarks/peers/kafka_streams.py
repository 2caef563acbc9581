"""Gets the Kafka Streams peer ready: its jars, and its classes by Eclipse's compiler, which needs no JDK."""

from __future__ import annotations

import hashlib
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.contestants import PEERS, Command, Contestant, MissingToolError, Run, peer_environment
from benchmarks.topics import create_topics
from stream_ensemble.embedded import EmbeddedServerError
from stream_ensemble.embedded.kafka_jars import KAFKA_VERSION, LockedJar, cache_dir, class_path
from stream_ensemble.embedded.kafka_java import java_runtime

_SOURCES = PEERS / "kafka_streams"
_HEAP_MB = 1024
#: The JVM compiles what is hot in its first seconds.
_WARM_S = 6.0
_COMPILER = LockedJar(
    "org.eclipse.jdt", "ecj", "3.40.0", "05cc22a24e7982970f63a405fc6c820bc80b806f27f3c5a6236fc475f8f7152b"
)
#: What it needs besides the broker's own jars.
_JARS = [
    LockedJar(
        "org.apache.kafka",
        "kafka-streams",
        KAFKA_VERSION,
        "e554318dbc2b07461f714be32bb324744ba993eb7a49f938792beff577d7044b",
    ),
    LockedJar(
        "org.rocksdb",
        "rocksdbjni",
        "9.7.3",
        "5ca63e0e955f101f7af1c1fb8ce260b5d3a5701cea7d8c2852b9d56031a57221",
    ),
]
_COMPILE_LIMIT_S = 120.0
_DOWNLOAD_LIMIT_S = 120


def kafka_streams(
    name: str, variant: str, pace: str = "throughput", longest_s: float = float("inf")
) -> Contestant:
    """One of the variants of ``kafka_streams/Main.java``."""

    def command(run: Run) -> Command:
        create_topics(run.servers.bootstrap, (run.output,))
        java = java_runtime()
        options = [f"-Xmx{_HEAP_MB}m", "-XX:-UsePerfData"]
        if java.version[0] >= 24:
            options += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
        options.append(f"-Dlog4j2.configurationFile={_SOURCES / 'log4j2.properties'}")
        path = ":".join(map(str, [_classes(), *_jars()]))
        return Command([java.binary, *options, "-cp", path, "Main", variant, pace], peer_environment(run))

    return Contestant(
        name,
        command,
        prepare=_prepare,
        warm_s=_WARM_S,
        longest_s=longest_s,
        versions={"kafka-streams": KAFKA_VERSION},
    )


def _prepare() -> None:
    try:
        _classes()
    except EmbeddedServerError as error:
        raise MissingToolError(str(error)) from error


@lru_cache(maxsize=1)
def _jars() -> list[Path]:
    return [*class_path(), *map(_fetched, _JARS)]


@lru_cache(maxsize=1)
def _classes() -> Path:
    """The folder of the compiled classes, made for this state of the sources once."""
    sources = sorted(_SOURCES.glob("*.java"))
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache_dir() / "bench" / f"kafka-streams-{digest}"
    if not (folder / "Main.class").exists():
        path = ":".join(map(str, _jars()))
        compiler = [java_runtime().binary, "-cp", _fetched(_COMPILER)]
        arguments = ["-17", "-nowarn", "-cp", path, "-d", folder, *sources]
        main = "org.eclipse.jdt.internal.compiler.batch.Main"
        done = subprocess.run(
            [*map(str, compiler), main, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=_COMPILE_LIMIT_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the Kafka Streams peer does not compile:\n{done.stdout}{done.stderr}")
    return folder


def _fetched(locked: LockedJar) -> Path:
    jar = _download(locked)
    if hashlib.sha256(jar.read_bytes()).hexdigest() != locked.sha256:
        jar.unlink()
        raise MissingToolError(f"the jar {locked.coordinates} arrived damaged; run again")
    return jar


def _download(locked: LockedJar) -> Path:
    try:
        from jgo.maven import MavenContext

        context: Any = MavenContext(repo_cache=cache_dir() / "maven", timeout=_DOWNLOAD_LIMIT_S)
        artifact = context.project(locked.group, locked.artifact).at_version(locked.version).artifact()
        return Path(artifact.resolve())
    except Exception as error:  # requests' errors and jgo's RuntimeError have no base in common but this
        raise MissingToolError(
            f"cannot download {locked.coordinates} from Maven Central ({type(error).__name__}); "
            "check the network"
        ) from error
