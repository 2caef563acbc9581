"""``stream-ensemble``: the command line.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> int``, named in ``COMMANDS``. It is
imported only when it is the one asked for, so that ``init`` does not wait for the demo's libraries.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from stream_ensemble.errors import SettingsError, StreamEnsembleError

#: Where each command stands, and the line that ``--help`` shows for it.
COMMANDS = {
    "init": ("stream_ensemble.cli.init", "write a commented ensemble.toml"),
    "check": ("stream_ensemble.cli.check", "say what is wrong with settings, topics and servers"),
    "topics": ("stream_ensemble.cli.topics", "make the topics of all ensembles right"),
    "audit": ("stream_ensemble.cli.audit.command", "say whether every request, prediction and label adds up"),
    "weights": (
        "stream_ensemble.cli.weights.command",
        "look at the learned weights, check them, pin or reset them",
    ),
    "backtest": ("stream_ensemble.cli.backtest.command", "play a recorded stream with late labels"),
    "demo": ("stream_ensemble.demo.command", "show the main job on real models and servers"),
}

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 well, 1 failed or found wrong, 2 wrong settings or usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    try:
        module = _imported(chosen) if chosen in COMMANDS else None
        args = _parser(chosen, module).parse_args(arguments)
        with _quiet("aiokafka"):
            code: int = args.run(args)
    except SettingsError as error:
        return _complain(error, EXIT_USAGE)
    except StreamEnsembleError as error:
        return _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _imported(command: str) -> ModuleType:
    try:
        return importlib.import_module(COMMANDS[command][0])
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.startswith("stream_ensemble"):
            raise
        raise StreamEnsembleError(
            f"{command} needs the package {missing}: pip install 'stream-ensemble[demo]'"
        ) from None


def _parser(chosen: str | None, module: ModuleType | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stream-ensemble",
        description="Joins the predictions of independent models and fuses them with learned weights.",
    )
    parser.add_argument("--version", action="version", version=f"stream-ensemble {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen and module is not None:
            command.set_defaults(run=module.run)
            module.add_arguments(command)
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("stream-ensemble")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@contextmanager
def _quiet(library: str) -> Iterator[None]:
    """What a client library logs before it fails is said once, and better, by the error itself."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _complain(error: StreamEnsembleError, code: int) -> int:
    print(f"stream-ensemble: {error}", file=sys.stderr)
    return code
