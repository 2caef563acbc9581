"""Makes Kafka start in half the time: its classes, parsed once and kept (Java's class data sharing)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.kafka import EmbeddedKafka
from stream_ensemble.embedded.kafka_jars import class_path
from stream_ensemble.embedded.kafka_java import class_archive, java_command, java_runtime
from stream_ensemble.embedded.server import last_line

_DUMP_TIMEOUT_S = 120.0


def make_archive() -> Path:
    """Starts a Kafka to see which classes it loads, and writes them to the archive, unless it is there.

    Raises:
        EmbeddedServerError: Kafka does not start, or Java cannot write the archive.
    """
    archive = class_archive(java_runtime(), class_path())
    if archive.exists():
        return archive
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedServerError(f"cannot write {archive}: {error.strerror}") from error
    with tempfile.TemporaryDirectory() as scratch:
        class_list = Path(scratch) / "classes"
        with EmbeddedKafka(java_options=[f"-XX:DumpLoadedClassList={class_list}"]):
            pass
        draft = archive.with_suffix(".draft")
        dump = ["-Xshare:dump", f"-XX:SharedClassListFile={class_list}", f"-XX:SharedArchiveFile={draft}"]
        try:
            done = subprocess.run(
                java_command(heap_mb=512, fast_jit=True, more=dump),
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_DUMP_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise EmbeddedServerError(f"Java wrote no class archive in {_DUMP_TIMEOUT_S:g} s") from None
        if done.returncode != 0:
            raise EmbeddedServerError(f"Java cannot write {draft}: {last_line(done.stdout + done.stderr)}")
        draft.replace(archive)
    return archive
