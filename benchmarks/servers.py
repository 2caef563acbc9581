"""The real Kafka and Redis of one benchmark, in a folder that goes with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis

_HEAP_MB = 1024


@dataclass(frozen=True, slots=True)
class Servers:
    """Where they are; ``broker_pid`` for the broker's own CPU; ``folder`` for what runs leave behind."""

    bootstrap: str
    redis: str
    broker_pid: int
    folder: Path


@contextmanager
def servers(overrides: Mapping[str, str] | None = None) -> Iterator[Servers]:
    """Fresh ones; ``overrides`` are settings of the broker."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as scratch,
        EmbeddedRedis() as redis,
        EmbeddedKafka(heap_mb=_HEAP_MB, fast_jit=False, overrides=overrides) as kafka,
    ):
        yield Servers(kafka.bootstrap, redis.url, kafka.pid, Path(scratch))
