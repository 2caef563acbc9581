"""What members in shadow say, in one partition: taken in, put beside the answers, told to the learner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_ensemble.core.join.records import Decided, Verdict
from stream_ensemble.core.join.shadows import Shadows, Waiting, waiting_of
from stream_ensemble.core.join.state import PartitionJoin
from stream_ensemble.fuser.held import HeldOffsets
from stream_ensemble.kafka.decode import Read
from stream_ensemble.kafka.encode import FusedFormat
from stream_ensemble.messages import Forwarded, Trial


class Beside:
    """Between the records and ``core.join.shadows``.

    Args:
        held: offsets of what waits are held there.
        inputs: names of the input topics.
    """

    def __init__(
        self,
        join: PartitionJoin,
        shadows: Shadows,
        held: HeldOffsets,
        inputs: Sequence[str],
        form: FusedFormat,
    ) -> None:
        self._join = join
        self._shadows = shadows
        self._held = held
        self._inputs = inputs
        self._form = form
        self._awaited = -1
        self._topics: frozenset[int] = frozenset()

    @property
    def topics(self) -> frozenset[int]:
        """Input topics in which somebody in shadow publishes."""
        awaited = int(self._join.everyone)
        if awaited != self._awaited:
            topic_of = self._join.rules.topic_of
            self._awaited = awaited
            self._topics = frozenset(topic for k, topic in enumerate(topic_of) if not awaited >> k & 1)
        return self._topics

    def apart(self, reads: Iterable[Read]) -> tuple[list[Read], list[Read]]:
        """Rows of who is in shadow, and those of the others."""
        mine: list[Read] = []
        others: list[Read] = []
        awaited = int(self._join.everyone)
        for read in reads:
            member = read.rows.member
            if isinstance(member, int):
                (others if awaited >> member & 1 else mine).append(read)
                continue
            inside = np.array([awaited >> k & 1 for k in member.tolist()], np.bool_)
            for found, places in ((others, np.flatnonzero(inside)), (mine, np.flatnonzero(~inside))):
                if len(places):
                    records = [read.records[place] for place in places.tolist()]
                    found.append(Read(read.rows.of(places), records))
        return mine, others

    def take(self, read: Read, now: float, decided: Sequence[Decided]) -> NDArray[np.uint8]:
        """Take predictions in shadow in and return the verdicts; ends of ``decided`` are not written yet."""
        slots, rows = self._join.slots, read.rows
        ending = {request_id for part in decided for request_id in slots.ids[slots.row(part.slots)].tolist()}
        verdicts = self._shadows.take(rows, read.records, ending, now)
        for place in np.flatnonzero(verdicts == Verdict.USED).tolist():
            self._held.hold(self._join.rules.topic_of[rows.member_of(place)], int(rows.offsets[place]))
        return verdicts

    def let_go(self, waited: Iterable[Waiting]) -> None:
        """Their offsets are held by something else now."""
        for one in waited:
            if one.record is not None:
                self._held.release(self._join.rules.topic_of[one.member], one.offset)

    def origin(self, one: Waiting) -> Forwarded:
        """Where a prediction stands."""
        return Forwarded(
            topic=self._inputs[self._join.rules.topic_of[one.member]],
            partition=self._form.partition,
            offset=one.offset,
            row=one.row,
            appended=one.appended,
        )

    def late(self, read: Read, verdicts: NDArray[np.uint8]) -> list[tuple[int, int, bytes, bytes]]:
        """What came in shadow after the end, for the learner; see :meth:`trials`."""
        places = np.flatnonzero(verdicts == Verdict.LATE).tolist()
        return self.trials(waiting_of(read.rows, place, read.records[place], 0.0) for place in places)

    def trials(self, late: Iterable[Waiting]) -> list[tuple[int, int, bytes, bytes]]:
        """Records that tell the learner what was said: input topic, offset, key and value of each."""
        found = []
        for one in late:
            if one.output is None:
                continue
            origin = self.origin(one)
            trial = Trial(
                version=1,
                kind="trial",
                request_id=one.request_id.decode(),
                member=self._form.members[one.member],
                output=one.output.tolist(),
                appended=one.appended,
                source=(origin.topic, origin.partition, origin.offset, origin.row),
            )
            topic = self._join.rules.topic_of[one.member]
            found.append((topic, one.offset, one.request_id, msgspec.json.encode(trial)))
        return found
