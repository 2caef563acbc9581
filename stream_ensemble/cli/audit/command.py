"""``stream-ensemble audit``: does the ledger balance? Told by the topics alone."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from stream_ensemble import config
from stream_ensemble.cli.audit.offenders import named
from stream_ensemble.cli.audit.report import Report, report, table
from stream_ensemble.cli.audit.span import Spans, Topics, committed_offsets, spans_of
from stream_ensemble.cli.audit.tally import Tally
from stream_ensemble.cli.audit.walk import Audit, Window
from stream_ensemble.cli.settings_argument import add_config_argument, load_settings
from stream_ensemble.config import Settings, topic_names
from stream_ensemble.errors import ServerUnavailableError, SettingsError, TopologyError
from stream_ensemble.kafka.admin import admin_client
from stream_ensemble.kafka.security import client_options
from stream_ensemble.kafka.tail import LogReader

_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
TOLERANCE_MS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--ensemble", metavar="NAME", help="only this one of the settings")
    moment = "2026-01-31T12:00, UTC unless it names a zone, or 90s, 15m, 2h, 3d ago"
    parser.add_argument("--since", type=_moment, metavar="TIME", help=f"requests that began then: {moment}")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="requests that began before then")
    parser.add_argument(
        "--tolerance-ms",
        type=int,
        default=TOLERANCE_MS,
        metavar="MS",
        help="how far brokers' clocks may differ (default: %(default)s)",
    )
    parser.add_argument("--temporary", type=Path, metavar="DIR", help="where temporary files go")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    settings = load_settings(args)
    names = list(settings.ensembles) if args.ensemble is None else [args.ensemble]
    if args.ensemble is not None and args.ensemble not in settings.ensembles:
        raise SettingsError(f"no ensemble {args.ensemble}; there are {', '.join(settings.ensembles)}")
    window = Window(args.since, args.until)
    found = [asyncio.run(_audit(settings, name, window, args.tolerance_ms, args.temporary)) for name in names]
    if args.json:
        _print_json([each for each, _ in found])
    else:
        print("\n\n".join("\n".join(table(each, tally)) for each, tally in found))
    return 0 if all(each.balances for each, _ in found) else 1


async def _audit(
    settings: Settings, name: str, window: Window, tolerance_ms: int, temporary: Path | None
) -> tuple[Report, Tally]:
    """Audit one ensemble.

    Raises:
        ServerUnavailableError: Kafka does not answer.
        TopologyError: a topic is missing.
    """
    began = time.monotonic()
    ensemble = settings.ensembles[name]
    topics, spans = await _what_to_read(settings, name, window)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="audit-", dir=temporary))
        options = client_options(settings.kafka)
        reader = await stack.enter_async_context(LogReader(options, committed_only=True))
        audit = Audit(reader, ensemble, topics, spans, window, Path(folder), tolerance_ms=tolerance_ms)
        tally = Tally()
        async for partition, one in audit.run():
            tally.add(one)
            if partition >= 0 and sys.stderr.isatty():
                print(f"\r{name}: {partition + 1} of {ensemble.partitions}", end="", file=sys.stderr)
        offenders = await named(reader, topics, tally.offenders)
    times = _shown(window.since), _shown(window.until)
    seconds = time.monotonic() - began
    return report(name, tally, audit.reasons, offenders, times, seconds), tally


async def _what_to_read(settings: Settings, name: str, window: Window) -> tuple[Topics, Spans]:
    ensemble = settings.ensembles[name]
    names = topic_names(name, ensemble)
    begin_ms = None if window.since is None else window.since - _margin_ms(ensemble)
    async with admin_client(settings.kafka) as client:
        listed = {topic["topic"]: len(topic["partitions"]) for topic in await client.describe_topics(None)}
        topics = Topics.of(names, listed.get(names.dead_letter, 0))
        for topic in (*topics.inputs, names.fused, names.late, names.weights, names.applied):
            if listed.get(topic, 0) < ensemble.partitions:
                raise TopologyError(
                    f"topic {topic} has {listed.get(topic, 0)} partitions, expected {ensemble.partitions}; "
                    "stream-ensemble check --connect says more"
                )
        committed = await committed_offsets(client, [f"{settings.app}-fuse", f"{settings.app}-learn"])
        consumer = AIOKafkaConsumer(
            **client_options(settings.kafka), group_id=None, isolation_level="read_committed"
        )
        try:
            await consumer.start()
            return topics, await spans_of(consumer, topics, ensemble.partitions, committed, begin_ms)
        except KafkaError as error:
            raise ServerUnavailableError(f"the ends of the topics cannot be read: {error}") from error
        finally:
            await consumer.stop()


def _margin_ms(ensemble: config.Ensemble) -> int:
    """Records of a request may stand so long before it is known that it began earlier."""
    return max(round(ensemble.lateness_horizon_s * 1000), 2 * ensemble.deadline_ms)


def _moment(text: str) -> int:
    """Milliseconds since the epoch."""
    ago = _AGO.fullmatch(text)
    if ago:
        moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no time as 2026-01-31T12:00 or 2h") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _shown(moment: int | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment / 1000, UTC).isoformat()


def _print_json(reports: Sequence[Report]) -> None:
    well = all(each.balances for each in reports)
    encoded = msgspec.json.encode({"ok": well, "ensembles": reports})
    sys.stdout.write(f"{msgspec.json.format(encoded, indent=2).decode()}\n")
