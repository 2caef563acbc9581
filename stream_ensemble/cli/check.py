"""``stream-ensemble check``: what is wrong, and what repairs it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec

from stream_ensemble import compiled
from stream_ensemble.cli.settings_argument import add_config_argument, load_settings
from stream_ensemble.config import Settings
from stream_ensemble.errors import SettingsError
from stream_ensemble.findings import Finding
from stream_ensemble.kafka.examination import examine as examine_kafka
from stream_ensemble.kafka.security import client_options
from stream_ensemble.stores.redis_connection import connect
from stream_ensemble.stores.redis_examination import examine as examine_redis


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--connect", action="store_true", help="look at the brokers, their topics and Redis too"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    try:
        settings = load_settings(args)
        _try_tls_files(settings)
    except SettingsError as error:
        if not args.json:
            raise
        _print_json(
            [Finding(level="error", subject="settings", problem=str(error), repair="change the setting")]
        )
        return 2
    findings = _missing_kernels()
    if args.connect:
        findings += asyncio.run(_examine(settings))
    findings.sort(key=lambda finding: finding.level)
    wrong = any(finding.level == "error" for finding in findings)
    if args.json:
        _print_json(findings, _notes(settings))
    else:
        _print_words(settings, findings, connected=args.connect)
    return 1 if wrong else 0


def _try_tls_files(settings: Settings) -> None:
    client_options(settings.kafka)
    connect(settings.redis)


async def _examine(settings: Settings) -> list[Finding]:
    kafka, redis = await asyncio.gather(examine_kafka(settings), examine_redis(settings))
    return kafka + redis


def _missing_kernels() -> list[Finding]:
    if compiled.AVAILABLE:
        return []
    return [
        Finding(
            level="warning",
            subject="this installation",
            problem=compiled.PROBLEM,
            repair=compiled.REPAIR,
        )
    ]


def _notes(settings: Settings) -> list[str]:
    """What is right and has a price."""
    kafka = settings.kafka
    if kafka.delivery == "fenced":
        return []
    return [
        f'kafka.delivery = "transactions": an answer can be read up to {kafka.transaction_interval_ms} ms '
        "and a commit later than it is made, by who reads committed records only (isolation.level = "
        "read_committed; FusedConsumer does); each partition has a producer of its own"
    ]


def _print_json(findings: list[Finding], notes: Sequence[str] = ()) -> None:
    well = not any(finding.level == "error" for finding in findings)
    said = {"ok": well, "findings": findings, "notes": notes}
    text = msgspec.json.format(msgspec.json.encode(said), indent=2)
    sys.stdout.write(f"{text.decode()}\n")


def _print_words(settings: Settings, findings: list[Finding], *, connected: bool) -> None:
    for finding in findings:
        print(finding)
    for note in _notes(settings):
        print(f"note: {note}")
    errors = sum(finding.level == "error" for finding in findings)
    counted = f"{errors} errors, {len(findings) - errors} warnings"
    names = ", ".join(settings.ensembles)
    looked_at = f"settings, topics and servers of {names}" if connected else f"settings of {names}"
    print(f"{looked_at}: {counted if findings else 'all well'}")
