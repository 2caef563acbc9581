"""Buckets made by hand: a small ensemble's partition, written the way the auditor reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream_ensemble.cli.audit import rows
from stream_ensemble.cli.audit.rows import hashes, place, table
from stream_ensemble.cli.audit.spill import Bucket
from stream_ensemble.cli.audit.terms import Terms
from stream_ensemble.core.join.records import Cause, Status

DEADLINE_MS, SILENT_MS = 100, 1000
MEMBERS = 3
TERMS = Terms(partition=2, deadline_ms=DEADLINE_MS, silence_after_ms=SILENT_MS, firsts=(0, 0, 0, 0, 0))


@dataclass
class Ledger:
    """Collects rows; each ``predict`` and ``fuse`` stands at the next offset of its topic."""

    offsets: dict[int, int] = field(default_factory=dict)
    found: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in rows.TABLES})

    def predict(
        self, request_id: str, member: int, appended: int = 0, output: float = 0.5, **more: Any
    ) -> int:
        """A prediction; returns its place."""
        at = self._next(member)
        self._add(
            "predictions", request_id, place=at, member=member, appended=appended,
            outputs=rows.checksum([output]), **{"decided": True, **more},
        )  # fmt: skip
        return at

    def ask(self, request_id: str, appended: int = 0, deadline_ms: int = 0, **more: Any) -> int:
        at = self._next(MEMBERS)
        columns = {"place": at, "appended": appended, "deadline_ms": deadline_ms, "decided": True}
        self._add("requests", request_id, **columns | more)
        return at

    def fuse(
        self,
        request_id: str,
        sources: Mapping[int, int],
        *,
        appended: int = 50,
        status: Status = Status.COMPLETE,
        cause: Cause = Cause.NONE,
        missing: Sequence[int] = (),
        asleep: Sequence[int] = (),
        unneeded: Sequence[int] = (),
        output: float = 0.5,
        judged: bool = True,
        teaches: bool = True,
    ) -> int:
        """A fused record of the places in ``sources``, by member."""
        at = self._next(99)
        masks = {"missing": missing, "asleep": asleep, "unneeded": unneeded}
        self._add(
            "fused", request_id, place=at, appended=appended, status=status, cause=cause, judged=judged,
            teaches=teaches, **{name: sum(1 << k for k in some) for name, some in masks.items()},
        )  # fmt: skip
        for member, source in sources.items():
            self._add(
                "components",
                request_id,
                place=source,
                fused=at,
                member=member,
                outputs=rows.checksum([output]),
            )
        return at

    def whole(self, request_id: str, appended: int = 0) -> dict[int, int]:
        """A request that all members answered and that was fused; the places of the predictions."""
        places = {member: self.predict(request_id, member, appended) for member in range(MEMBERS)}
        self.fuse(request_id, places, appended=appended + 5)
        return places

    def late(self, request_id: str, at: int) -> None:
        self._add("late", request_id, place=at)

    def label(self, request_id: str, revision: int = 0, **more: Any) -> int:
        """A label; its origin is itself unless told otherwise."""
        at = self._next(MEMBERS + 1)
        columns = {"place": at, "origin": at, "partition": 2, "revision": revision, "decided": True}
        self._add("feedback", request_id, **columns | more)
        return at

    def apply(self, request_id: str, origin: int, *, learned: bool = True, **more: Any) -> int:
        at = self._next(98)
        columns = {"place": at, "origin": origin, "partition": 2, "learned": learned}
        self._add("applied", request_id, **columns | more)
        return at

    def bucket(self) -> Bucket:
        """Everything so far."""
        return {
            name: np.concatenate(some) if (some := self.found[name]) else np.empty(0, dtype)
            for name, dtype in rows.TABLES.items()
        }

    def _next(self, topic: int) -> int:
        self.offsets[topic] = self.offsets.get(topic, -1) + 1
        return place(topic if topic <= MEMBERS + 1 else 0, self.offsets[topic])

    def _add(self, name: str, request_id: str, **columns: Any) -> None:
        for column in ("place", "origin", "outputs", "fused"):
            if column in columns:
                columns[column] = np.array([columns[column]], np.uint64)
        self.found[name].append(table(rows.TABLES[name], hashes([request_id.encode()]), **columns))
