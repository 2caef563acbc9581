"""Admission at work: one owner looks at the records of those in shadow, and admits by control records."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping

from stream_ensemble.core.learning.membership import admissions
from stream_ensemble.core.learning.trial import Record, earned, record_of
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.watch import Watch
from stream_ensemble.messages import Control
from stream_ensemble.stores.contributions import ContributionStore, Stored
from stream_ensemble.stores.whole import whole_of

log = logging.getLogger(__name__)


def admits(ensemble: LearnedEnsemble, partition: int) -> bool:
    """Is it this partition's owner that looks at shadows?"""
    return bool(ensemble.config.shadows) and partition == 0


class Admitter(Watch):
    """Admits who has earned it.

    Of a member that a control record was ever about it decides nothing: who was retired comes back by hand
    alone.

    Args:
        contributions: where all owners publish.

    Attributes:
        records: the newest record of each shadow; None: nothing was scored yet.
    """

    def __init__(self, ensemble: LearnedEnsemble, contributions: ContributionStore) -> None:
        super().__init__(ensemble, contributions)
        self.records: dict[str, Record | None] = dict.fromkeys(ensemble.config.shadows)
        self._sent: set[str] = set()
        self._decided: list[Control] = []

    def _decide(self, fields: Mapping[int, Stored]) -> None:
        whole = whole_of(self._ensemble.algorithm, fields)
        rule = self._ensemble.config.learning.admission
        self.records = {name: record_of(whole, name, rule.share) for name in self.records}
        if not rule.automatic:
            return
        said = admissions(self._state)
        generation = max((stored.order.generation for stored in fields.values()), default=0)
        self._decided = [
            self._admit(name, generation)
            for name, record in self.records.items()
            if name not in said and name not in self._sent and earned(record, rule.least_labels, rule.error)
        ]

    def orders(self) -> list[Outgoing]:
        """What was decided, for every partition; once."""
        decided, self._decided = self._decided, []
        outgoing = []
        for control in decided:
            assert control.member is not None
            self._sent.add(control.member)
            log.warning(
                "%s: %s is admitted by its record: %s",
                self._ensemble.name,
                control.member,
                self.records[control.member],
            )
            outgoing += self._to_everybody(control)
        return outgoing

    def _admit(self, member: str, generation: int) -> Control:
        rule = self._ensemble.config.learning.admission
        # Two owners who see the same give the same name to what they decide.
        told = f"{self._ensemble.name} {generation} {member}".encode()
        return Control(
            version=1,
            kind="control",
            number=self._state.number + 1,
            id=hashlib.blake2b(told, digest_size=16).hexdigest(),
            action="admit",
            by="admission",
            at=round(time.time() * 1000),
            member=member,
            generation=generation,
            share=rule.share,
            labels=rule.warm_labels,
        )
