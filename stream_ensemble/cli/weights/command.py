"""``stream-ensemble weights …``: look at the learned weights, check them, and take them in hand."""

from __future__ import annotations

import argparse

from stream_ensemble.cli.weights import controlling, differing, listing, membering, recomputing, showing

_ACTIONS = (
    listing.add_action,
    showing.add_action,
    differing.add_action,
    recomputing.add_action,
    controlling.add_pin,
    controlling.add_unpin,
    controlling.add_reset,
    membering.add_admit,
    membering.add_retire,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of ``stream-ensemble weights``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for add_action in _ACTIONS:
        add_action(actions)


def run(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    code: int = args.act(args)
    return code
