"""Java's producer as everybody has it: the console producer that comes with Kafka.

It runs on the Java and the jars of the embedded Kafka, and one jar more with the tools.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable
from pathlib import Path

from jgo.maven import MavenContext

from stream_ensemble.embedded.kafka_jars import KAFKA_VERSION, cache_dir
from stream_ensemble.embedded.kafka_java import java_command
from stream_ensemble.embedded.kafka_properties import log4j2_properties

_TOOLS_SHA256 = "8a6939f310a61119cedaffc144119e9b2a374e32a7ec18f78e49ce5aeb71d6b0"
_DOWNLOAD_TIMEOUT_S = 60
_LIMIT_S = 60.0
_SEPARATOR = "|"


def produce(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes]], folder: Path) -> None:
    """Publish records (key, value) where Java's default partitioner puts them; returns when all are there.

    Neither key nor value may hold a line end, nor a key the separator.
    """
    (folder / "log4j2.properties").write_text(log4j2_properties())
    *java, jars = java_command(heap_mb=64, fast_jit=True)
    options = ["--bootstrap-server", bootstrap, "--topic", topic, "--producer-property", "acks=all"]
    options += ["--property", "parse.key=true", "--property", f"key.separator={_SEPARATOR}"]
    done = subprocess.run(
        [*java, f"{jars}:{_tools_jar()}", "org.apache.kafka.tools.ConsoleProducer", *options],
        input=b"".join(key.encode() + _SEPARATOR.encode() + value + b"\n" for key, value in records),
        cwd=folder,
        capture_output=True,
        timeout=_LIMIT_S,
    )
    # It tells of a record it could not send, and still ends with 0.
    assert done.returncode == 0 and b"Error" not in done.stderr, (done.stdout + done.stderr).decode()


def _tools_jar() -> Path:
    context = MavenContext(repo_cache=cache_dir() / "maven", timeout=_DOWNLOAD_TIMEOUT_S)
    tools = context.project("org.apache.kafka", "kafka-tools").at_version(KAFKA_VERSION)
    jar = Path(tools.artifact().resolve())
    assert hashlib.sha256(jar.read_bytes()).hexdigest() == _TOOLS_SHA256, f"damaged: {jar}"
    return jar
