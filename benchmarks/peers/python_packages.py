"""An environment of its own for the peers whose packages would change what the product runs with."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.contestants import PEERS, MissingToolError
from stream_ensemble.embedded.kafka_jars import cache_dir

_REQUIREMENTS = PEERS / "requirements.txt"
_INSTALL_LIMIT_S = 600.0


def python() -> Path:
    """Its interpreter, whether it is there yet or not."""
    return _folder() / "bin" / "python"


def install() -> None:
    """Make it, once for each state of the requirements.

    Raises:
        MissingToolError: the packages cannot be had.
    """
    folder = _folder()
    done = folder / "installed"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(python()), "-m", "pip", "install", "--quiet", "--requirement", str(_REQUIREMENTS)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_LIMIT_S)
    if ended.returncode != 0:
        reason = (ended.stderr.strip() or "no reason given").splitlines()[-1]
        raise MissingToolError(f"pip cannot install {_REQUIREMENTS.name}: {reason}")
    done.touch()


def versions(*packages: str) -> dict[str, str]:
    """The versions that the requirements pin."""
    lines = [line.partition("==") for line in _REQUIREMENTS.read_text().splitlines()]
    return {name: pinned for name, _, pinned in lines if name in packages}


def _folder() -> Path:
    identity = f"{sys.version}\n{_REQUIREMENTS.read_text()}"
    return cache_dir() / "bench" / f"python-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
