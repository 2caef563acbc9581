"""The rows that are kept in the repository, a JSON line a measurement, with machine and versions."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from stream_ensemble.embedded.kafka_jars import KAFKA_VERSION

_FOLDER = Path(__file__).parent / "rows"
_PACKAGES = ("faust-streaming", "aiokafka", "confluent-kafka")


def keep(what: str, row: Mapping[str, object]) -> None:
    """Append ``row`` to the rows of ``what``."""
    _FOLDER.mkdir(exist_ok=True)
    versions = {"python": platform.python_version(), "kafka": KAFKA_VERSION}
    versions |= {package: version(package) for package in _PACKAGES}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    whole = {"when": when, **row, "cores": os.cpu_count(), "versions": versions}
    with (_FOLDER / f"{what}.jsonl").open("a") as file:
        file.write(json.dumps(whole) + "\n")
