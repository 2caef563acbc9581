"""``weights pin``, ``unpin`` and ``reset``: take the weights in hand."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from stream_ensemble.cli.weights.chosen import add_ensemble_arguments, add_json_argument, chosen_ensemble
from stream_ensemble.cli.weights.kept import Kept, read_kept
from stream_ensemble.cli.weights.live import Live, read_live
from stream_ensemble.cli.weights.ordering import Ordered, new_control, send
from stream_ensemble.cli.weights.printing import print_json
from stream_ensemble.cli.weights.showing import as_json, require_key
from stream_ensemble.config import Settings
from stream_ensemble.core.learning.control import pin_of
from stream_ensemble.errors import SettingsError, StreamEnsembleError
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.messages import Control, PinnedWeights
from stream_ensemble.stores.contributions import Key


def add_pin(actions: Any) -> None:
    """``pin``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "pin",
        help="fuse with given weights from now on; learning goes on beneath",
        description="Every fuser fuses with the weights given until `unpin`, over restarts and an emptied "
        "Redis. Learning goes on beneath.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "current", nargs="?", choices=("current",), help="the learned weights of now (the default)"
    )
    which.add_argument(
        "--from", dest="file", type=Path, metavar="FILE", help='from `show --json`, or {"MEMBER": WEIGHT}'
    )
    which.add_argument("--uniform", action="store_true", help="the same weight for every member")
    add_common(parser, _pin, segment=True)


def add_unpin(actions: Any) -> None:
    """``unpin``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "unpin",
        help="fuse with the learned weights again",
        description="Takes a pin back: every fuser fuses with what has been learned meanwhile.",
    )
    add_common(parser, _unpin, segment=True)


def add_reset(actions: Any) -> None:
    """``reset``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "reset",
        help="forget everything learned and begin anew",
        description="Begins a new generation with nothing learned, in all segments. Labels of requests that "
        "were fused with older weights change nothing any more. A pin stays.",
    )
    add_common(parser, _reset, segment=False)


def add_common(parser: argparse.ArgumentParser, act: Any, *, segment: bool) -> None:
    """The arguments of every command that is a control record."""
    if segment:
        parser.add_argument("--segment", metavar="NAME", help="only requests of this segment")
    parser.add_argument(
        "--wait", type=float, default=15.0, metavar="SECONDS", help="for the owners to apply it (default: 15)"
    )
    add_ensemble_arguments(parser)
    add_json_argument(parser)
    parser.set_defaults(act=act)


def _pin(args: argparse.Namespace) -> int:
    settings, ensemble = chosen_ensemble(args)
    kept = None if args.file is None else read_kept(args.file)
    live = asyncio.run(read_live(settings, ensemble))
    if kept is not None:
        strangers = kept.weights.keys() - set(ensemble.algorithm.members)
        if strangers:
            raise SettingsError(
                f"{args.file}: {', '.join(sorted(strangers))} is no member of {ensemble.name}, which has "
                f"{', '.join(ensemble.algorithm.members)}"
            )
        pinned, what = kept.pinned, f"the weights of {args.file}"
    elif args.uniform:
        pinned, what = (
            PinnedWeights(weights=dict.fromkeys(ensemble.algorithm.members, 1.0)),
            "uniform weights",
        )
    else:
        pinned, what = _current(ensemble, live, args.segment)
    control = new_control(live, "pin", segment=args.segment, pinned=pinned)
    return order(args, settings, ensemble, control, f"pin to {what}{_of(args.segment)}")


def _current(ensemble: LearnedEnsemble, live: Live, segment: str | None) -> tuple[PinnedWeights, str]:
    key = Key(ensemble.task, segment)
    require_key(live, key)
    shown = as_json(ensemble, live, key)
    what = f"what {shown['n']} labels have taught (version {shown['version']})"
    kept = Kept(shown["weights"], shown["credit"], shown["n"], shown["calibration"])
    return kept.pinned, what


def _unpin(args: argparse.Namespace) -> int:
    settings, ensemble = chosen_ensemble(args)
    live = asyncio.run(read_live(settings, ensemble))
    pin = pin_of(live.controls, args.segment)
    if pin is None or (pin.by, pin.segment) != ("operator", args.segment):
        raise StreamEnsembleError(f"{ensemble.name} is not pinned{_of(args.segment)}; nothing was sent")
    control = new_control(live, "unpin", segment=args.segment)
    return order(args, settings, ensemble, control, f"unpin{_of(args.segment)}")


def _reset(args: argparse.Namespace) -> int:
    settings, ensemble = chosen_ensemble(args)
    live = asyncio.run(read_live(settings, ensemble))
    control = new_control(live, "reset", generation=live.generation + 1)
    what = f"reset; generation {control.generation} begins with nothing learned"
    return order(args, settings, ensemble, control, what)


def _of(segment: str | None) -> str:
    return "" if segment is None else f" in segment {segment}"


def order(
    args: argparse.Namespace, settings: Settings, ensemble: LearnedEnsemble, control: Control, what: str
) -> int:
    """Send a control record and say what became of it."""
    ordered = asyncio.run(send(settings, ensemble, control, args.wait))
    if args.json:
        print_json(_as_json(ensemble, ordered))
    else:
        _print(ensemble, ordered, what)
    return 1 if ordered.left else 0


def _as_json(ensemble: LearnedEnsemble, ordered: Ordered) -> dict[str, Any]:
    return {
        "ensemble": ensemble.name,
        "control": ordered.control,
        "applied": ordered.applied,
        "left": {str(p): why for p, why in ordered.left.items()},
        "seconds": round(ordered.seconds, 3),
    }


def _print(ensemble: LearnedEnsemble, ordered: Ordered, what: str) -> None:
    print(f"sent to {ensemble.name}: {what}")
    everyone = len(ordered.applied) + len(ordered.left)
    print(
        f"control record {ordered.control.number} stands in all {everyone} partitions; applied by the owners "
        f"of {len(ordered.applied)} within {ordered.seconds:.1f} s"
    )
    for p, why in ordered.left.items():
        print(f"partition {p}: {why}")
