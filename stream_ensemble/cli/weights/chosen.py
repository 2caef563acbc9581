"""Which ensemble and which weights a command is about."""

from __future__ import annotations

import argparse
from pathlib import Path

from stream_ensemble.cli.settings_argument import add_config_argument, load_settings
from stream_ensemble.config import Settings
from stream_ensemble.errors import SettingsError
from stream_ensemble.learner.ensemble import LearnedEnsemble, learned_ensemble
from stream_ensemble.stores.contributions import Key
from stream_ensemble.stores.control_state import CONTROLS


def add_ensemble_arguments(parser: argparse.ArgumentParser) -> None:
    """``--ensemble`` and ``--config``."""
    parser.add_argument("--ensemble", metavar="NAME", help="which one, where the settings have several")
    add_config_argument(parser)


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """Whose weights: ``TASK`` or ``TASK/SEGMENT``."""
    parser.add_argument(
        "key", nargs="?", metavar="KEY", help="TASK or TASK/SEGMENT, as `list` shows it (default: the task)"
    )


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def chosen_ensemble(args: argparse.Namespace) -> tuple[Settings, LearnedEnsemble]:
    """The settings, and the ensemble that ``--ensemble`` names or that is the only one.

    Raises:
        SettingsError: there is none of that name, or it has to be said which.
    """
    settings = load_settings(args)
    return settings, named_ensemble(settings, args.ensemble)


def named_ensemble(settings: Settings, name: str | None) -> LearnedEnsemble:
    """The ensemble of this name; None: the only one.

    Raises:
        SettingsError: there is none of that name, or it has to be said which.
    """
    names = ", ".join(settings.ensembles)
    if name is None:
        if len(settings.ensembles) > 1:
            raise SettingsError(f"the settings have several ensembles; add --ensemble with one of {names}")
        (name,) = settings.ensembles
    if name not in settings.ensembles:
        raise SettingsError(f"--ensemble {name}: the settings have {names}")
    # No file is written there by a command.
    data_dir = Path(settings.worker.data_dir) / "learn"
    return learned_ensemble(settings, name, group_id=f"{settings.app}-learn", data_dir=data_dir)


def chosen_key(args: argparse.Namespace, ensemble: LearnedEnsemble) -> Key:
    """The key that the argument ``KEY`` names.

    Raises:
        SettingsError: it is of another task.
    """
    return ensemble_key(args.key, ensemble)


def ensemble_key(text: str | None, ensemble: LearnedEnsemble) -> Key:
    """:func:`chosen_key` of a text: a task's name holds no slash, a segment's may."""
    if text is None:
        return Key(ensemble.task)
    task, slash, segment = text.partition("/")
    if task != ensemble.task:
        raise SettingsError(
            f"{text}: the task of ensemble {ensemble.name} is {ensemble.task}; "
            f"write {ensemble.task} or {ensemble.task}/SEGMENT"
        )
    return Key(task, segment if slash else None)


def shown_key(key: Key) -> str:
    """A key as it is typed; that of the control states says so."""
    if key == CONTROLS:
        return "(controls)"
    return key.task if key.segment is None else f"{key.task}/{key.segment}"
