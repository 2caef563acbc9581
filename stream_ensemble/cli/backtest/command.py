"""``stream-ensemble backtest FILE``: what an algorithm would have made of a recorded stream."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stream_ensemble.cli.backtest import conditions, files
from stream_ensemble.cli.backtest.figures import (
    PROBABILITIES,
    CalibrationFigures,
    Figures,
    figures,
    without_nan,
)
from stream_ensemble.cli.backtest.recording import LOSSES, Recording, checked
from stream_ensemble.core.learning.algorithm import Algorithm
from stream_ensemble.core.learning.backtest import Played, Stream, play
from stream_ensemble.core.learning.calibrated_play import play_calibrated
from stream_ensemble.core.learning.choose import ALGORITHMS, DEFAULT_RATE, Options, named
from stream_ensemble.core.learning.losses import Loss
from stream_ensemble.core.learning.segments import play_segments
from stream_ensemble.errors import SettingsError, StreamEnsembleError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stream-ensemble backtest``."""
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="a recorded stream: .npz, .csv, .jsonl or .parquet")
    add("--loss", required=True, choices=LOSSES, help="what is minimised")
    add("--algorithm", default="bank", metavar="NAME", help=f"{', '.join(ALGORITHMS)} (default: bank)")
    add(
        "--delay",
        default="0",
        metavar="D",
        help="how many requests late labels come: 100, geometric:100 (the mean) or bursts:5000 (together)",
    )
    add("--label-rate", type=float, default=1.0, metavar="SHARE", help="of the labels that ever come")
    add("--missing", type=float, default=0.0, metavar="SHARE", help="of the answers to leave out")
    add("--seed", type=int, default=0, help="of what is left out and of random delays")
    add("--drift", choices=("half",), help="half: in the middle the best and worst members change places")
    add("--calibrate", action="store_true", help="calibrate the fused probabilities by the labels too")
    add("--segments", metavar="COLUMN", help="column of FILE that names each request's segment")
    add("--taus", type=_numbers, metavar="A,B,...", help="quantiles that an output holds, for pinball")
    add(
        "--parts",
        type=lambda text: text.split(","),
        default=(),
        metavar="A,B,...",
        help="classes or horizons in the order of an output, where recorded labels are about them by name",
    )
    add("--half-life", default="500", metavar="N", help="labels, or none; for ml_poly and best_single")
    add("--floor", type=float, default=0.01, help="share of the weight spread evenly")
    add("--rate", type=float, default=DEFAULT_RATE, help="step length of ewa and softmax_gradient")
    add("--weights", type=_weights, metavar="A=1,B=2", help="of every member, for fixed")
    add("--json", action="store_true", help="print the figures as JSON")
    add("--plot", type=Path, metavar="PATH", help="draw loss and weights over time: .png, .svg or .pdf")


def run(args: argparse.Namespace) -> int:
    """Play the file and print what came of it."""
    late = conditions.delay(args.delay)
    _check(args)
    recording, loss = _recording(args)
    stream = conditions.scheduled(recording, late, args.label_rate, args.seed)
    options = _options(args, recording.members, late)
    began = time.perf_counter()
    played = _play(args.algorithm, recording, stream, loss, options)
    calibrated = play_calibrated(stream, played.fused) if args.calibrate else None
    seconds = time.perf_counter() - began
    found = figures(stream, loss, recording.members, played, calibrated)
    if args.plot:
        _draw(args, found)
    if args.json:
        print(json.dumps(_as_json(args, found, seconds), indent=2, allow_nan=False))
    else:
        _print(args, found, seconds)
    return 0


def _check(args: argparse.Namespace) -> None:
    if not 0 <= args.label_rate <= 1:
        raise SettingsError(f"--label-rate {args.label_rate:g}: expected a share of 0 to 1")
    if not 0 <= args.missing < 1:
        raise SettingsError(f"--missing {args.missing:g}: expected a share of 0 to below 1")
    if not 0 <= args.floor < 1:
        raise SettingsError(f"--floor {args.floor:g}: expected a share of 0 to below 1")
    if not 0 < args.rate < float("inf"):
        raise SettingsError(f"--rate {args.rate:g}: expected a number above 0")
    if args.calibrate and args.loss not in PROBABILITIES:
        raise SettingsError(f"--calibrate needs class probabilities: --loss {' or '.join(PROBABILITIES)}")
    if args.seed < 0:
        raise SettingsError(f"--seed {args.seed}: expected 0 or more")


def _recording(args: argparse.Namespace) -> tuple[Recording, Loss]:
    raw = files.read(args.file, args.parts)
    if args.taus is not None:
        raw = replace(raw, taus=args.taus)
    try:
        recording, loss = checked(raw, args.loss, args.segments)
    except SettingsError as error:
        raise SettingsError(f"{args.file}: {error}") from None
    if not recording.awake.any():
        raise SettingsError(f"{args.file}: every output is missing")
    if args.drift:
        recording = conditions.drifted(recording, loss)
    if args.missing:
        recording = conditions.missing(recording, args.missing, args.seed)
    return recording, loss


def _options(args: argparse.Namespace, members: tuple[str, ...], late: conditions.Delay) -> Options:
    if (args.algorithm == "fixed") != (args.weights is not None):
        raise SettingsError("--weights and --algorithm fixed go together")
    if args.weights is not None:
        if set(args.weights) != set(members):
            raise SettingsError(f"--weights: expected one for each of {', '.join(members)}")
        if not any(args.weights.values()):
            raise SettingsError("--weights: expected at least one above 0")
    return Options(_half_life(args.half_life), args.floor, args.rate, args.weights, late.on_their_way)


def _half_life(text: str) -> float | None:
    if text == "none":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise SettingsError(f"--half-life {text}: expected a number of labels above 0, or none")
    return value


def _play(name: str, recording: Recording, stream: Stream, loss: Loss, options: Options) -> Played:
    def make() -> Algorithm:
        return named(name, recording.members, loss, options)

    if recording.segments is None:
        return play(stream, make(), loss)
    return play_segments(stream, recording.segments, make, loss)


def _draw(args: argparse.Namespace, found: Figures) -> None:
    try:
        # Imported here: it takes a second, and is not among the dependencies.
        from stream_ensemble.cli.backtest.picture import draw
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stream_ensemble"):
            raise
        raise StreamEnsembleError(
            f"--plot needs the package {error.name}: pip install 'stream-ensemble[demo]'"
        ) from None
    draw(args.plot, found, f"{args.file.name}: {args.algorithm}, {args.loss} loss, delay {args.delay}")


def _as_json(args: argparse.Namespace, found: Figures, seconds: float) -> dict[str, Any]:
    members = {name: without_nan(value) for name, value in found.members.items()}
    return {
        "file": str(args.file),
        "algorithm": args.algorithm,
        "loss_name": args.loss,
        "delay": args.delay,
        **asdict(found),
        "members": members,
        "seconds": seconds,
    }


def _print(args: argparse.Namespace, found: Figures, seconds: float) -> None:
    table = Table(title=f"{args.file}: mean {args.loss} loss, delay {args.delay}", title_justify="left")
    table.add_column("")
    table.add_column("loss", justify="right")
    table.add_column("final weight", justify="right")
    table.add_row(args.algorithm, f"{found.loss:.6g}", "")
    table.add_row("uniform", f"{found.uniform:.6g}", "")
    table.add_row("best single", f"{found.best_single:.6g}", "")
    table.add_row("best fixed weights in hindsight", f"{found.best_convex:.6g}", "", end_section=True)
    for name, value in found.members.items():
        table.add_row(name, f"{value:.6g}", f"{found.weights[name]:.4f}")
    console = Console(file=sys.stdout, highlight=False)
    console.print(table)
    if found.calibration:
        console.print(_calibration(args.algorithm, found.calibration))
    console.print(_over_time(found))
    rate = found.labels / seconds if seconds else 0.0
    unanswered = f", {found.unanswered} of them unanswered" if found.unanswered else ""
    console.print(
        f"{found.requests} requests{unanswered}; {found.labels} labels in {seconds:.2f} s, {rate:,.0f}/s"
    )


def _calibration(algorithm: str, found: CalibrationFigures) -> Table:
    table = Table(title="expected calibration error of the most probable class", title_justify="left")
    for heading in ("", "error", "loss"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row(algorithm, f"{found.error:.4f}", "")
    if found.calibrated is not None:
        table.add_row("calibrated", f"{found.calibrated:.4f}", f"{found.calibrated_loss:.6g}")
    table.add_row("uniform", f"{found.uniform:.4f}", "")
    return table


def _over_time(found: Figures) -> Table:
    """Loss and the five heaviest members' weights over the parts of the stream."""
    mean = {name: np.mean([span["weights"][name] for span in found.spans]) for name in found.weights}
    heaviest = sorted(mean, key=lambda name: -mean[name])[:5]
    table = Table(title="over time", title_justify="left")
    for heading in ("from request", "loss", "uniform", *heaviest):
        table.add_column(heading, justify="right")
    for span in found.spans:
        weights = [f"{span['weights'][name]:.3f}" for name in heaviest]
        table.add_row(f"{span['first']}", f"{span['loss']:.6g}", f"{span['uniform']:.6g}", *weights)
    return table


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _weights(text: str) -> dict[str, float]:
    """``a=1,b=2`` as numbers by name."""
    pairs = [part.rpartition("=") for part in text.split(",")]
    weights = {name: float(value) for name, _, value in pairs}
    if not all(0 <= value < float("inf") for value in weights.values()):
        raise ValueError
    return weights
