"""``stream-ensemble demo``: the main job on five real models, with a fault and a kill on the way."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from stream_ensemble import settings_file
from stream_ensemble.cli.topics import make_right
from stream_ensemble.config import Ensemble, Kafka, Learning, Redis, Settings, Task
from stream_ensemble.demo import scenario
from stream_ensemble.demo.cast import Cast
from stream_ensemble.demo.dataset import Part, stream
from stream_ensemble.demo.report import problems, report
from stream_ensemble.demo.scenario import Plan
from stream_ensemble.demo.tally import Tally
from stream_ensemble.demo.view import LiveView, PlainView, View, result_tables
from stream_ensemble.demo.watch import watch
from stream_ensemble.embedded import EmbeddedKafka, EmbeddedRedis
from stream_ensemble.errors import SettingsError

_Server = TypeVar("_Server", EmbeddedKafka, EmbeddedRedis)
_LOOK_S = 0.25
#: After the last request was asked, answers may take this long without any coming.
_STALL_S = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stream-ensemble demo``."""
    parser.add_argument(
        "--out", type=Path, default=Path("demo-out"), metavar="DIR", help="report, pictures and logs"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the stream and the delays")
    parser.add_argument("--requests", type=int, default=scenario.REQUESTS)
    parser.add_argument("--seconds", type=float, default=scenario.SECONDS, help="over which they are asked")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a Kafka that runs, instead of an embedded one")
    parser.add_argument("--redis", metavar="URL", help="a Redis that runs, instead of an embedded one")


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when it showed what it must, 1 when not."""
    if args.requests < 100 or args.seconds <= 0:
        raise SettingsError("--requests must be 100 or more and --seconds above 0")
    plan = Plan(args.requests, args.seconds, args.seed)
    folder = args.out.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"--out {args.out}: {error.strerror}; name a folder that can be written"
        ) from None
    console = Console()
    view: View = LiveView(console) if console.is_terminal else PlainView(console)
    began = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            tally, requests = _perform(args, plan, folder, view, stack)
    finally:
        view.close()
    figures = report(tally, requests.labels, time.monotonic() - began)
    return _conclude(figures, tally, requests, folder, console)


def _perform(
    args: argparse.Namespace, plan: Plan, folder: Path, view: View, stack: contextlib.ExitStack
) -> tuple[Tally, Part]:
    for old in folder.glob("*.log"):
        old.unlink()
    kafka, redis = _servers(args, folder, view, stack)
    settings = _settings(kafka, redis, own_servers=not args.kafka)
    (folder / "ensemble.toml").write_text(settings_file.dump(settings))
    asyncio.run(make_right(settings))
    view.say("topics made")
    cast = stack.enter_context(Cast(plan, settings, folder))
    cast.start_workers()
    requests = stream(plan.requests, plan.seed)
    cast.wait_ready(view.say)
    cast.start_stream()
    view.say(
        f"{plan.requests} requests over {plan.seconds:g} s; labels follow, {scenario.LABEL_NEVER:.0%} never"
    )
    tally = Tally(plan)
    asyncio.run(_watch(settings, tally, requests, cast, view))
    cast.stop()
    view.say("all processes ended in order")
    return tally, requests


def _servers(
    args: argparse.Namespace, folder: Path, view: View, stack: contextlib.ExitStack
) -> tuple[str, str]:
    """Addresses of Kafka and Redis; those that are not given are started, both at once."""
    starting: dict[str, Future[Any]] = {}
    with ThreadPoolExecutor() as pool:
        if not args.kafka:
            kafka = stack.enter_context(_stopped(EmbeddedKafka(folder / "kafka" / uuid.uuid4().hex[:8])))
            starting["Kafka"] = pool.submit(kafka.start)
        if not args.redis:
            redis = stack.enter_context(_stopped(EmbeddedRedis(folder / "redis" / uuid.uuid4().hex[:8])))
            starting["Redis"] = pool.submit(redis.start)
    for name, future in starting.items():
        future.result()
        view.say(f"{name} is up")
    return args.kafka or kafka.bootstrap, args.redis or redis.url


@contextlib.contextmanager
def _stopped(server: _Server) -> Iterator[_Server]:
    """Stops a server in the end, however it was started."""
    try:
        yield server
    finally:
        server.stop()


def _settings(kafka: str, redis: str, *, own_servers: bool) -> Settings:
    # On servers of others the topics must be nobody else's.
    suffix = "" if own_servers else f"-{uuid.uuid4().hex[:6]}"
    ensemble = Ensemble(
        members=list(scenario.MEMBERS),
        task=Task(classes=list(scenario.CLASSES)),
        deadline_ms=scenario.DEADLINE_MS,
        learning=Learning(algorithm="bank"),
    )
    return Settings(
        app=f"demo{suffix}",
        # A killed worker is missed after the least time a broker allows.
        kafka=Kafka(bootstrap_servers=kafka.split(","), session_timeout_s=6.0),
        redis=Redis(url=redis),
        ensembles={f"{scenario.ENSEMBLE}{suffix}": ensemble},
    )


async def _watch(settings: Settings, tally: Tally, requests: Part, cast: Cast, view: View) -> None:
    """Follow the run to its end, and let happen what must happen on the way."""
    plan = tally.plan
    reading = asyncio.create_task(watch(settings, tally))
    events = _events(plan, cast, view)
    upcoming = next(events, None)
    last, moved = 0, time.monotonic()
    try:
        while tally.ended < plan.requests:
            await asyncio.sleep(_LOOK_S)
            if reading.done():
                reading.result()
            cast.check()
            while upcoming is not None and tally.ended >= upcoming:
                upcoming = next(events, None)
            view.show(tally, requests.labels)
            if tally.ended > last:
                last, moved = tally.ended, time.monotonic()
            if cast.all_asked() and time.monotonic() - moved > _STALL_S:
                view.say(f"no answers for {_STALL_S:g} s; {plan.requests - tally.ended} are missing")
                return
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _events(plan: Plan, cast: Cast, view: View) -> Iterator[int]:
    """Yields the number of answers to wait for; what stands after a yield happens then."""
    yield plan.number_at(scenario.FAULT_AT)
    view.say(f"fault: the input of {scenario.FAULTY}, the best member, is corrupted from here on")
    yield plan.number_at(scenario.KILL_AT)
    cast.kill_member(scenario.KILLED)
    view.say(f"kill: {scenario.KILLED} killed with SIGKILL")
    yield plan.number_at(scenario.RESTART_AT)
    cast.start_member(scenario.KILLED)
    view.say(f"restart: {scenario.KILLED} started again")


def _conclude(figures: dict[str, Any], tally: Tally, requests: Part, folder: Path, console: Console) -> int:
    from stream_ensemble.demo.pictures import draw  # matplotlib takes a second to import

    (folder / "report.json").write_text(json.dumps(figures, indent=2) + "\n")
    pictures = draw(tally, requests.labels, folder)
    console.print(*result_tables(figures))
    ledger = figures["ledger"]
    console.print(
        f"statuses: {figures['statuses']}   labels learned: {figures['labels_learned']}", highlight=False
    )
    console.print(
        f"ledger: {ledger['requests']} requests, {ledger['terminal']} ended, {ledger['duplicates']} twice, "
        f"difference {ledger['difference']}",
        highlight=False,
    )
    for path in (folder / "report.json", *pictures):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    wrong = problems(figures)
    for line in wrong:
        print(f"stream-ensemble: {line}", file=sys.stderr)
    return 1 if wrong else 0
