"""Changes of one flush on top of what is stored: nothing is lost or half done if the flush never happens."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stream_ensemble.core.labels.records import Answer, DeadLabel, Known, Verdict
from stream_ensemble.messages import CreditBlock, Trial

if TYPE_CHECKING:
    from stream_ensemble.core.labels.answers import Head


class Changes:
    """A ``Known`` that shows the changes of this flush before what is stored.

    Attributes:
        answers: fused records read.
        blocks: credit blocks read, each with the newest append time (ms) at which a record carried it.
        verdicts: what became of labels, by label key; None: a parked label that was given up.
        dead: labels for the dead-letter topic.
        late: what shadows said of requests after their end, by request id and member.
        unparked: labels that are stored as parked and are so no more, by key, with their append time (ms).
        sound: heads of answers that labels can be charged against, by their bytes, with the generation.
        counts: what happened, by word, for the metrics.
    """

    def __init__(self, stored: Known) -> None:
        self._stored = stored
        self.answers: dict[str, Answer] = {}
        self.blocks: dict[str, tuple[int, CreditBlock]] = {}
        self.verdicts: dict[str, Verdict | None] = {}
        self.unparked: dict[str, int] = {}
        self.dead: list[DeadLabel] = []
        self.late: dict[str, dict[str, Trial]] = {}
        self.sound: dict[bytes, tuple[int, Head]] = {}
        self.counts: Counter[str] = Counter()
        self._parked_more = 0
        self._found: dict[str, CreditBlock] = {}
        self._at_hand: dict[str, tuple[Verdict | None, Answer | None]] = {}

    def answer(self, request_id: str) -> Answer | None:
        """See ``Known``."""
        here = self.answers.get(request_id)
        if here is not None:
            return here
        at_hand = self._at_hand.get(request_id)
        return self._stored.answer(request_id) if at_hand is None else at_hand[1]

    def verdict(self, key: str) -> Verdict | None:
        """See ``Known``."""
        if key in self.verdicts:
            return self.verdicts[key]
        at_hand = self._at_hand.get(key)
        return self._stored.verdict(key) if at_hand is None else at_hand[0]

    def look_up(self, keys: Sequence[str]) -> list[tuple[Verdict | None, Answer | None]]:
        """See ``Known``."""
        with self.at_hand(keys):
            return [self.known(key) for key in keys]

    def known(self, key: str) -> tuple[Verdict | None, Answer | None]:
        """The same of one."""
        at_hand = self._at_hand.get(key)
        if at_hand is None:
            return self.verdict(key), self.answer(key)
        verdict, answer = at_hand
        return self.verdicts.get(key, verdict), self.answers.get(key, answer)

    @contextmanager
    def at_hand(self, keys: Sequence[str]) -> Iterator[None]:
        """Look all of these up in what is stored at once, for as long as this lasts: one by one is slow."""
        self._at_hand = dict(zip(keys, self._stored.look_up(keys), strict=True))
        try:
            yield
        finally:
            self._at_hand = {}

    def block(self, digest: str) -> CreditBlock | None:
        """See ``Known``."""
        carried = self.blocks.get(digest)
        if carried:
            return carried[1]
        found = self._found.get(digest) or self._stored.block(digest)
        if found is not None:
            # Thousands of labels share a block, and every look into the store costs as much as a label.
            self._found[digest] = found
        return found

    def parked(self, appended_before: int, limit: int) -> list[tuple[str, Verdict]]:
        """See ``Known``."""
        here = [
            (key, verdict)
            for key, verdict in self.verdicts.items()
            if verdict is not None and not verdict.learned and verdict.appended < appended_before
        ]
        # So many more because each change may hide a stored one.
        stored = [
            (key, verdict)
            for key, verdict in self._stored.parked(appended_before, limit + len(self.verdicts))
            if key not in self.verdicts
        ]
        return heapq.nsmallest(limit, here + stored, key=lambda item: item[1].appended)

    def parked_count(self) -> int:
        """See ``Known``."""
        return self._stored.parked_count() + self._parked_more

    def trials(self, request_id: str) -> dict[str, Trial]:
        """See ``Known``."""
        here = self.late.get(request_id, {})
        return {**self._stored.trials(request_id), **here} if self._stored.has_trials() else here

    def has_trials(self) -> bool:
        """See ``Known``."""
        return bool(self.late) or self._stored.has_trials()

    def keep_trial(self, trial: Trial) -> None:
        """Keep what a shadow said: the first of its member."""
        if trial.member not in self.trials(trial.request_id):
            self.late.setdefault(trial.request_id, {})[trial.member] = trial

    def decide(self, key: str, verdict: Verdict | None) -> None:
        """Set what became of the label of a key."""
        self.decide_after(self.verdict(key), key, verdict)

    def decide_after(self, before: Verdict | None, key: str, verdict: Verdict | None) -> None:
        """The same where it is known that ``before`` is what stands: that spares a look into the store."""
        if before is not None and not before.learned:
            self._parked_more -= 1
            if key not in self.verdicts:
                self.unparked[key] = before.appended
        if verdict is not None and not verdict.learned:
            self._parked_more += 1
        self.verdicts[key] = verdict

    def rest_on(self, stored: Known) -> None:
        """Rest on something else that knows the same: the store, once what was between has been written."""
        self._stored = stored

    def refuse(self, dead: DeadLabel) -> None:
        """Send a label to dead-letter."""
        self.dead.append(dead)
        self.counts[f"dead:{dead.reason}"] += 1
