"""From starting a ``faust worker`` process to its first fused record, on empty topics with an empty index."""

from __future__ import annotations

import statistics
import time

from benchmarks.contestants import Run, new_run
from benchmarks.job import make_job
from benchmarks.listening import listen, listener
from benchmarks.load import add
from benchmarks.measure import RunError
from benchmarks.options import Options
from benchmarks.ours import ours
from benchmarks.rows import keep
from benchmarks.servers import servers
from benchmarks.tables import Bar, bars, say, spread
from benchmarks.topics import create_topics, drop_topics
from benchmarks.verify import verify

_ROUNDS = 5
_MOST_S = 6.0
_LIMIT_S = 60.0
_STOP_LIMIT_S = 20.0


def start(options: Options) -> int:
    """Run it; returns the number of faults."""
    taken: list[float] = []
    faults = 0
    with servers() as servers_:
        for number in range(1, (options.rounds or _ROUNDS) + 1):
            run = new_run(servers_, "start", number)
            try:
                seconds, found = _once(run)
            except RunError as error:
                say(f"  round {number}: FAILED: {error}")
                faults += 1
                continue
            faults += found
            taken.append(seconds)
            say(f"  round {number}: {seconds:.2f} s, {found} faults")
            if options.keep_rows:
                keep("start", {"start_s": round(seconds, 2), "faults": found})
    if taken:
        say(f"\nfrom the start of the process to the first fused record: {spread(taken, '.2f')} s")
        bars([Bar("seconds to the first fused record", statistics.median(taken), _MOST_S, most=True)])
    return faults


def _once(run: Run) -> tuple[float, int]:
    """Seconds, and faults in the output."""
    job = make_job(1)
    create_topics(run.servers.bootstrap, run.inputs)
    command = ours().command(run)
    consumer = listener(run.servers.bootstrap, run.output)
    began = time.time()
    worker = command.start(run)
    try:
        # The topics are empty when it starts; the request comes while it does.
        add(run.servers.bootstrap, job, run.inputs)
        heard = listen(consumer, lambda now: now < began + _LIMIT_S and worker.running, most=1)
        if not len(heard.readable):
            raise RunError(f"no fused record in {_LIMIT_S:g} s:\n{worker.output(2048)}")
    finally:
        worker.stop(_STOP_LIMIT_S)
        consumer.close()
    faults = verify(run, job, complete=True).faults
    drop_topics(run.servers.bootstrap, run.name)
    return float(heard.readable[0]) - began, faults
