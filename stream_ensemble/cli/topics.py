"""``stream-ensemble topics create``: make what is missing, set right what is set wrong."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator

from stream_ensemble.cli.settings_argument import add_config_argument, load_settings
from stream_ensemble.config import Settings
from stream_ensemble.kafka.admin import admin_client, alter_topics, create_topics, read_topics
from stream_ensemble.kafka.topology import Plan, creation_configs, plan, wanted_topics, with_room_for
from stream_ensemble.kafka.topology_findings import partition_problem, partition_repair

_WHY_LEFT = "It is left as it is: with another count, records of one request would stand in two partitions."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    create = actions.add_parser(
        "create",
        help="make the missing topics and correct the configuration of the others",
        description="Make the missing topics and correct the configuration of the others. Running it again "
        "changes nothing. The partition count of a topic that exists is never changed.",
    )
    add_config_argument(create)
    create.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")


def run(args: argparse.Namespace) -> int:
    settings = load_settings(args)
    done = asyncio.run(make_right(settings, dry_run=args.dry_run))
    for line in _said(done, dry_run=args.dry_run):
        print(line)
    for topic, count in done.refused:
        print(
            f"stream-ensemble: topic {topic.name} {partition_problem(topic, count)}. {_WHY_LEFT}",
            file=sys.stderr,
        )
        print(f"    repair: {partition_repair(topic, count)}", file=sys.stderr)
    return 1 if done.refused else 0


async def make_right(settings: Settings, *, dry_run: bool = False) -> Plan:
    """Make all topics of ``settings`` right, as far as that is safe; returns what was, or would be, done.

    Raises:
        ServerUnavailableError: no broker answers.
        TopologyError: the brokers refuse.
    """
    wanted = wanted_topics(settings)
    async with admin_client(settings.kafka) as client:
        actual = await read_topics(client, (topic.name for topic in wanted))
        planned = plan(with_room_for(wanted, actual), actual)
        if not dry_run and planned.create:
            await create_topics(client, planned.create, settings.kafka)
        if not dry_run and planned.alter:
            await alter_topics(client, planned.alter, actual)
    return planned


def _said(done: Plan, *, dry_run: bool) -> Iterator[str]:
    would = "would be " if dry_run else ""
    for topic in done.create:
        configs = " ".join(f"{name}={value}" for name, value in creation_configs(topic).items())
        yield f"{would}made: {topic.name} with {topic.partitions} partitions, {configs}"
    for name, change in done.alter.items():
        yield f"{would}altered: {name}: {' '.join(f'{key}={value}' for key, value in change.items())}"
    if not (done.create or done.alter or done.refused):
        yield "all topics are right"
