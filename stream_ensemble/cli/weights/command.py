"""``stream-ensemble weights …``: look at the learned weights, check them, and take them in hand."""

from __future__ import annotations

import argparse

from stream_ensemble.cli.weights import differing, listing, recomputing, showing

_ACTIONS = (listing, showing, differing, recomputing)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of ``stream-ensemble weights``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for action in _ACTIONS:
        action.add_action(actions)


def run(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    code: int = args.act(args)
    return code
