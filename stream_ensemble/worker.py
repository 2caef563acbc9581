"""What the two Faust apps have in common: how an app is made from the settings, its pages, its memory
manners.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import mode.loop
from faust.utils.terminal import SpinnerHandler
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from stream_ensemble import settings_file
from stream_ensemble.config import Settings
from stream_ensemble.errors import SettingsError
from stream_ensemble.kafka.security import faust_options
from stream_ensemble.kafka.transport import ChunkApp

log = logging.getLogger(__name__)

#: Fetches that may wait for the agent. Each may be some MB per topic, so few: ours blocks when it is full,
#: where Faust's own delivery would pause the partitions for a second.
_STREAM_BUFFER = 1
#: Full collections are rare: the hot path makes no cycles, and a collection looks at every object of a chunk.
_GC_THRESHOLDS = (100_000, 50, 100)
#: Parameters of mallopt, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def load_settings() -> Settings:
    """The settings for this process; a mistake in them ends it with one line and exit code 2."""
    try:
        return settings_file.load()
    except SettingsError as error:
        print(f"stream-ensemble: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def new_app(settings: Settings, role: str) -> ChunkApp:
    """A Faust app for ``role`` ("fuse" or "learn") with the settings that did well, measured in
    ``benchmarks/``.
    """
    mode.loop.use("uvloop")
    kafka = settings.kafka
    app = ChunkApp(
        f"{settings.app}-{role}",
        **faust_options(kafka),
        autodiscover=False,
        datadir=str(data_dir(settings, role)),
        id_format="{id}",
        value_serializer="raw",
        key_serializer="raw",
        topic_disable_leader=True,
        topic_allow_declare=False,
        # With standby replicas at 0 and no changelog Faust falls back to round robin, which splits what
        # belongs together.
        table_standby_replicas=1,
        stream_wait_empty=False,
        stream_buffer_maxsize=_STREAM_BUFFER,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=kafka.fetch_max_bytes_per_partition,
        broker_commit_interval=kafka.commit_interval_s,
        broker_request_timeout=kafka.request_timeout_s,
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_interval_s,
        broker_rebalance_timeout=kafka.rebalance_timeout_s,
        # The owner decides what a slow chunk means; leaving the group because one took long would only move
        # the problem.
        broker_max_poll_interval=86_400.0,
        web_in_thread=False,
    )
    app.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    return app


def data_dir(settings: Settings, role: str) -> Path:
    """Where this process may keep files; made if it is not there.

    Ends the process with one line when it cannot be.
    """
    path = Path(settings.worker.data_dir) / role
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(
            f"stream-ensemble: worker.data_dir = {settings.worker.data_dir!r}: {error.strerror}; "
            "name a writable folder",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    return path


def serve_pages(
    app: ChunkApp, registry: CollectorRegistry, health: Callable[[], tuple[bool, dict[str, Any]]]
) -> None:
    """``/metrics`` in Prometheus' text form and ``/health`` (200 or 503 with the reasons) on the worker's web
    port.
    """

    @app.page("/metrics")  # type: ignore[untyped-decorator]
    async def metrics(web: Any, request: Any) -> Any:
        return web.bytes(generate_latest(registry), content_type=CONTENT_TYPE_LATEST.partition(";")[0])

    @app.page("/health")  # type: ignore[untyped-decorator]
    async def healthy(web: Any, request: Any) -> Any:
        well, details = health()
        return web.json({"healthy": well, **details}, status=200 if well else 503)


def settle_memory() -> None:
    """After start: what is loaded stays, so the collector need not look at it again; what is freed is kept
    for the next chunk instead of going back to the kernel, which would have to clear it each time.
    """
    _keep_freed_memory()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _keep_freed_memory() -> None:
    """Settings of glibc's malloc (``mallopt(3)``); elsewhere nothing is done."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for name, value in (
        (_M_MMAP_THRESHOLD, 32 << 20),
        (_M_TRIM_THRESHOLD, 512 << 20),
        (_M_TOP_PAD, 64 << 20),
    ):
        mallopt(name, value)


def die(what: str, error: BaseException) -> NoReturn:
    """End the process at once, offsets uncommitted.

    An exception that leaves an agent would acknowledge its chunk, and a stop in order would commit what a
    broken state says.
    """
    log.critical("%s; this worker ends and another takes over", what, exc_info=error)
    logging.shutdown()
    os._exit(os.EX_SOFTWARE)


def settle_logging(settings: Settings) -> None:
    """Our own messages from ``worker.log_level`` on, those of the libraries as Faust's ``--loglevel`` says.

    To turn its progress spinner Faust opens the root logger to everything, and each of aiokafka's some
    hundred messages a second would be made only to be dropped.
    """
    ours = logging.getLevelNamesMapping()[settings.worker.log_level]
    root = logging.getLogger()
    written = [handler for handler in root.handlers if not isinstance(handler, SpinnerHandler)]
    root.setLevel(max(root.level, min((handler.level for handler in written), default=root.level)))
    for handler in written:
        handler.setLevel(min(handler.level, ours))
    logging.getLogger("stream_ensemble").setLevel(ours)
