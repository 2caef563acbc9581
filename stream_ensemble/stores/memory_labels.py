"""Labels in this process's memory: next to RocksDB in the contract suite, and for tests of the learner."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.records import Answer, Verdict
from stream_ensemble.messages import CreditBlock, Trial
from stream_ensemble.stores.labels import Position, newest


class MemoryLabelStore:
    """A ``LabelStore`` in dictionaries; it does not survive its process."""

    def __init__(self) -> None:
        self._position: Position | None = None
        self._answers: dict[str, Answer] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._parked: dict[str, Verdict] = {}
        self._blocks: dict[str, tuple[int, CreditBlock]] = {}
        self._trials: dict[str, dict[str, Trial]] = {}

    def position(self) -> Position | None:
        """See ``LabelStore``."""
        return self._position

    def answer(self, request_id: str) -> Answer | None:
        """See ``Known``."""
        return self._answers.get(request_id)

    def verdict(self, key: str) -> Verdict | None:
        """See ``Known``."""
        return self._verdicts.get(key) or self._parked.get(key)

    def look_up(self, keys: Sequence[str]) -> list[tuple[Verdict | None, Answer | None]]:
        """See ``Known``."""
        return [(self.verdict(key), self.answer(key)) for key in keys]

    def block(self, digest: str) -> CreditBlock | None:
        """See ``Known``."""
        carried = self._blocks.get(digest)
        return carried[1] if carried else None

    def parked(self, appended_before: int, limit: int) -> list[tuple[str, Verdict]]:
        """See ``Known``."""
        due = (item for item in self._parked.items() if item[1].appended < appended_before)
        return heapq.nsmallest(limit, due, key=lambda item: item[1].appended)

    def parked_count(self) -> int:
        """See ``Known``."""
        return len(self._parked)

    def trials(self, request_id: str) -> dict[str, Trial]:
        """See ``Known``."""
        return self._trials.get(request_id, {})

    def has_trials(self) -> bool:
        """See ``Known``."""
        return bool(self._trials)

    def write(self, changes: Changes, position: Position) -> None:
        """See ``LabelStore``."""
        self._answers.update(changes.answers)
        self._blocks.update(changes.blocks)
        for request_id, late in changes.late.items():
            self._trials[request_id] = {**self.trials(request_id), **late}
        for key, verdict in changes.verdicts.items():
            self._verdicts.pop(key, None)
            self._parked.pop(key, None)
            if verdict is not None:
                (self._verdicts if verdict.learned else self._parked)[key] = verdict
        self._position = position

    def expire(self, appended_before: int, limit: int) -> int:
        """See ``LabelStore``."""
        old = [name for name, answer in self._answers.items() if answer.appended < appended_before][:limit]
        for request_id in old:
            del self._answers[request_id]
        self._verdicts = {k: v for k, v in self._verdicts.items() if v.appended >= appended_before}
        self._blocks = {k: v for k, v in self._blocks.items() if v[0] >= appended_before}
        self._trials = {k: v for k, v in self._trials.items() if newest(v) >= appended_before}
        return len(old)

    def stored_bytes(self) -> int:
        """See ``LabelStore``: of the answers, which are most of it."""
        return sum(len(name) + len(answer.value) for name, answer in self._answers.items())

    def clear(self) -> None:
        """See ``LabelStore``."""
        self.__init__()  # type: ignore[misc]

    def close(self) -> None:
        """See ``LabelStore``."""
