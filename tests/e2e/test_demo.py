"""The demo as a person starts it: it ends with a report or one clear line, and leaves no process behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-m", "stream_ensemble.cli", "demo"]
MARK = "STREAM_ENSEMBLE_TEST_RUN"


def environment(mark: str) -> dict[str, str]:
    return {**os.environ, MARK: mark}


def alive(mark: str) -> list[str]:
    """Command lines of the processes that were started under ``mark``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def wait_until_gone(mark: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (left := alive(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


@pytest.mark.timeout(150)
def test_a_short_run_reports_and_leaves_nothing_behind(
    kafka_bootstrap: str, redis_url: str, tmp_path: Path
) -> None:
    mark = str(tmp_path)
    run = ["--out", str(tmp_path), "--requests", "600", "--seconds", "10", "--seed", "7"]
    done = subprocess.run(
        [*DEMO, *run, "--kafka", kafka_bootstrap, "--redis", redis_url],
        env=environment(mark),
        capture_output=True,
        text=True,
        timeout=130,
    )
    assert "Traceback" not in done.stdout + done.stderr
    figures = json.loads((tmp_path / "report.json").read_text())
    assert figures["ledger"] == {"requests": 600, "terminal": 600, "duplicates": 0, "difference": 0}, (
        done.stdout
    )
    assert sum(figures["statuses"].values()) == 600
    assert figures["labels_learned"] > 0
    assert figures["fused"]["accuracy"] > 0.5
    assert figures["latency_ms"]["p99"] >= figures["latency_ms"]["p50"] > 0
    for picture in ("weights.png", "loss.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    wait_until_gone(mark)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(ending: signal.Signals, tmp_path: Path) -> None:
    mark = f"{tmp_path}-{ending.name}"
    with subprocess.Popen(
        [*DEMO, "--out", str(tmp_path)],
        env=environment(mark),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as demo:
        assert demo.stdout is not None
        seen = []
        for line in demo.stdout:
            seen.append(line)
            if "topics made" in line:
                break
        assert seen and "topics made" in seen[-1], "".join(seen)
        # The orchestrator, Kafka, Redis, and at least the first of the workers.
        deadline = time.monotonic() + 20
        while len(alive(mark)) < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(alive(mark)) >= 4
        demo.send_signal(ending)
        assert demo.wait(30) in (130, -ending)
        rest = demo.stdout.read()
    assert "Traceback" not in rest
    wait_until_gone(mark)


def one_line(*arguments: str) -> str:
    done = subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_kafka_that_is_not_there_is_one_line(redis_url: str, tmp_path: Path) -> None:
    line = one_line("--out", str(tmp_path), "--kafka", "127.0.0.1:1", "--redis", redis_url)
    assert "127.0.0.1:1" in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    line = one_line("--out", str(file / "folder"))
    assert str(file / "folder") in line
