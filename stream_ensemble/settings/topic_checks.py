"""Topic names: legal for Kafka, and no topic used for two things."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stream_ensemble.config import Settings, Topics, topic_names
from stream_ensemble.settings.problems import Path, Problem, shown, toml_path

_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")


def topic_problems(settings: Settings) -> Iterator[Problem]:
    """Names Kafka refuses, placeholders that do not exist, and names used twice in the deployment."""
    used: dict[str, Path] = {}
    for ensemble_name, ensemble in settings.ensembles.items():
        names = topic_names(ensemble_name, ensemble)
        for role in Topics.__struct_fields__:
            at: Path = ("ensembles", ensemble_name, "topics", role)
            pattern = getattr(ensemble.topics, role)
            if (problem := _unknown_placeholder(at, pattern)) is not None:
                yield problem
                continue
            filled = getattr(names, role)
            each = _by_member(filled, pattern) if isinstance(filled, tuple) else [filled]
            for topic in each:
                yield from _name_problems(at, role, topic, used)


def _by_member(topics: tuple[str, ...], pattern: str) -> list[str]:
    """All of them where each member has its own, so that two alike are noticed; else the shared one."""
    return list(topics) if "{member}" in pattern else list(topics[:1])


def _unknown_placeholder(at: Path, pattern: str) -> Problem | None:
    known = {"{ensemble}", "{member}"} if at[-1] == "predictions" else {"{ensemble}"}
    unknown = [found for found in _PLACEHOLDER.findall(pattern) if found not in known]
    if not unknown:
        return None
    return Problem(
        at, f"{unknown[0]} cannot be filled in; known here: {', '.join(sorted(known))}", shown(pattern)
    )


def _name_problems(at: Path, role: str, topic: str, used: dict[str, Path]) -> Iterator[Problem]:
    if role == "requests" and not topic:
        return
    if not _LEGAL.match(topic) or topic in (".", ".."):
        yield Problem(at, "expected 1 to 249 letters, digits, dots, dashes or underscores", shown(topic))
        return
    # Kafka takes a dot and an underscore for the same in a topic name and refuses the second topic.
    folded = topic.replace(".", "_")
    if folded in used:
        yield Problem(
            at, f"expected a topic of its own; already used by {toml_path(used[folded])}", shown(topic)
        )
    used.setdefault(folded, at)
