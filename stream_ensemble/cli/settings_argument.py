"""The ``--config`` argument, the same for every command that reads settings."""

from __future__ import annotations

import argparse
from pathlib import Path

from stream_ensemble import settings_file
from stream_ensemble.config import Settings


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help=f"settings file (default: ${settings_file.PATH_VARIABLE}, else {settings_file.DEFAULT_PATH})",
    )


def load_settings(args: argparse.Namespace) -> Settings:
    """The settings that ``--config`` and the environment say.

    Raises:
        SettingsError: naming every setting that is wrong.
    """
    return settings_file.load(args.config)
