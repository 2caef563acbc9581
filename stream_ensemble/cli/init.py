"""``stream-ensemble init [PATH]``: write a settings file to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from stream_ensemble import settings_file
from stream_ensemble.errors import SettingsError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        nargs="?",
        type=Path,
        default=Path(settings_file.DEFAULT_PATH),
        metavar="PATH",
        help=f"where to write it (default: {settings_file.DEFAULT_PATH})",
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")


def run(args: argparse.Namespace) -> int:
    path: Path = args.path
    try:
        with path.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(settings_file.template())
    except FileExistsError:
        raise SettingsError(f"{path} is there already; --force overwrites it") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}") from None
    print(f"wrote {path}; name your members and classes in it, then run `stream-ensemble check`")
    return 0
