"""Gets the Rust peer ready: cargo builds it once, with librdkafka, outside the repository."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.contestants import PEERS, Command, Contestant, MissingToolError, Run, peer_environment
from benchmarks.tables import say
from benchmarks.topics import create_topics
from stream_ensemble.embedded.kafka_jars import cache_dir

_SOURCES = PEERS / "rust"
_BUILD_LIMIT_S = 900.0
_TOOLS = {
    "cargo": "Rust (cargo 1.80 or later)",
    "cc": "a C compiler (gcc or clang)",
    "make": "make",
}


def rust(name: str) -> Contestant:
    """The job by hand on librdkafka."""

    def command(run: Run) -> Command:
        create_topics(run.servers.bootstrap, (run.output,))
        return Command([_target() / "release" / "limit"], peer_environment(run))

    return Contestant(name, command, prepare=_build, versions=_versions())


def _target() -> Path:
    return cache_dir() / "bench" / "rust"


def _build() -> None:
    missing = [what for tool, what in _TOOLS.items() if shutil.which(tool) is None]
    if missing:
        raise MissingToolError(f"install {' and '.join(missing)}")
    say("building the Rust peer (the first time some two minutes)")
    command = ["cargo", "build", "--release", "--locked", "--quiet"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(_target())}
    done = subprocess.run(
        command, cwd=_SOURCES, env=environment, capture_output=True, text=True, timeout=_BUILD_LIMIT_S
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise MissingToolError(f"cargo cannot build it: {reason}")


def _versions() -> dict[str, str]:
    lock = (_SOURCES / "Cargo.lock").read_text()
    found = re.findall(r'name = "(rdkafka|rdkafka-sys)"\nversion = "([^"]+)"', lock)
    return dict(found)
