"""``weights admit`` and ``retire``: who is awaited and weighted."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from stream_ensemble.cli.weights.chosen import chosen_ensemble
from stream_ensemble.cli.weights.controlling import add_common, order
from stream_ensemble.cli.weights.live import Live, read_live
from stream_ensemble.cli.weights.ordering import new_control
from stream_ensemble.config import everyone
from stream_ensemble.core.learning.membership import awaited_by
from stream_ensemble.errors import SettingsError, StreamEnsembleError
from stream_ensemble.learner.ensemble import LearnedEnsemble


def add_admit(actions: Any) -> None:
    """``admit``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "admit",
        help="await a member in shadow and give it weight",
        description="Makes a member of one in shadow, whatever its record, or takes `retire` back. It begins "
        "at learning.admission.share of the answer; what it has earned before counts.",
    )
    parser.add_argument("member", metavar="MEMBER", help="its name in the settings")
    share = parser.add_mutually_exclusive_group()
    share.add_argument("--share", type=_share, metavar="SHARE", help="of the answer to begin with, below 1")
    share.add_argument("--cold", action="store_true", help="begin with what it has earned alone")
    add_common(parser, _admit, segment=False)


def add_retire(actions: Any) -> None:
    """``retire``."""
    parser: argparse.ArgumentParser = actions.add_parser(
        "retire",
        help="put a member into shadow: not awaited, no weight",
        description="Nobody waits for it any more, also not for requests that are open; the others share its "
        "weight. It is scored on, and what it has earned stays for `admit`.",
    )
    parser.add_argument("member", metavar="MEMBER", help="its name in the settings")
    add_common(parser, _retire, segment=False)


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected at least 0 and below 1")
    return share


def _admit(args: argparse.Namespace) -> int:
    settings, ensemble = chosen_ensemble(args)
    _require(ensemble, args.member)
    live = asyncio.run(read_live(settings, ensemble))
    if args.member in _awaited(ensemble, live):
        raise StreamEnsembleError(f"{args.member} is a member of {ensemble.name} already; nothing was sent")
    rule = ensemble.config.learning.admission
    share = 0.0 if args.cold else rule.share if args.share is None else args.share
    control = new_control(
        live,
        "admit",
        member=args.member,
        generation=live.generation,
        share=share,
        labels=rule.warm_labels if share else 0.0,
    )
    what = (
        f"admit {args.member} at a share of {share:g}, which falls to nothing over {control.labels:g} labels"
    )
    return order(args, settings, ensemble, control, what if share else f"admit {args.member}")


def _retire(args: argparse.Namespace) -> int:
    settings, ensemble = chosen_ensemble(args)
    _require(ensemble, args.member)
    live = asyncio.run(read_live(settings, ensemble))
    left = [name for name in _awaited(ensemble, live) if name != args.member]
    config = ensemble.config
    if args.member not in _awaited(ensemble, live):
        raise StreamEnsembleError(f"{args.member} is in shadow already; nothing was sent")
    if args.member in config.required:
        raise StreamEnsembleError(f"{args.member} is required by the settings; nothing was sent")
    if len(left) < config.quorum:
        raise StreamEnsembleError(
            f"{len(left)} members would be left of {ensemble.name}, whose quorum is {config.quorum}; nothing "
            "was sent"
        )
    control = new_control(live, "retire", member=args.member)
    return order(args, settings, ensemble, control, f"retire {args.member}")


def _awaited(ensemble: LearnedEnsemble, live: Live) -> list[str]:
    return awaited_by(live.controls, ensemble.config.members, ensemble.config.shadows)


def _require(ensemble: LearnedEnsemble, member: str) -> None:
    known = everyone(ensemble.config)
    if member not in known:
        raise SettingsError(
            f"{ensemble.name} has no {member!r}; its members and shadows are {', '.join(known)}"
        )
