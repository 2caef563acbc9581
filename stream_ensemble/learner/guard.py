"""The guardrail at work: one owner looks at what all have learned, and switches by control records."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from typing import Literal

from stream_ensemble.core.learning.guardrail import Judged, Thresholds, judged
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.watch import Watch
from stream_ensemble.messages import Control, ControlState, PinnedWeights
from stream_ensemble.stores.contributions import ContributionStore, Stored
from stream_ensemble.stores.whole import whole_of

log = logging.getLogger(__name__)


def guards(ensemble: LearnedEnsemble, partition: int) -> bool:
    """Is it this partition's owner that keeps the guardrail?"""
    return ensemble.config.learning.guardrail.enabled and partition == 0


class Guard(Watch):
    """Switches to uniform weights and back.

    Args:
        contributions: where all owners publish.

    Attributes:
        judged: the newest judgement; None: there is none yet.
    """

    def __init__(self, ensemble: LearnedEnsemble, contributions: ContributionStore) -> None:
        super().__init__(ensemble, contributions)
        self.judged: Judged | None = None
        settings = ensemble.config.learning.guardrail
        self._thresholds = Thresholds(settings.least_labels, settings.worse_by, settings.back_at)
        self._sent = 0
        self._decided: Control | None = None

    def _decide(self, fields: Mapping[int, Stored]) -> None:
        self.judged = judged(whole_of(self._ensemble.algorithm, fields))
        if self._state.number < self._sent:
            # What was decided last is on its way.
            return
        now = _is_on(self._state)
        on = self._thresholds.on(now, self.judged)
        self._decided = self._control("pin" if on else "unpin") if on != now else None

    def switches(self) -> list[Outgoing]:
        """What was decided, for every partition; once."""
        control, self._decided = self._decided, None
        if control is None:
            return []
        self._sent = control.number
        log.warning(
            "%s: the guardrail switches to %s weights; mean losses: %s",
            self._ensemble.name,
            "uniform" if control.action == "pin" else "the learned",
            self.judged,
        )
        return self._to_everybody(control)

    def _control(self, action: Literal["pin", "unpin"]) -> Control:
        uniform = PinnedWeights(weights=dict.fromkeys(self._ensemble.algorithm.members, 1.0))
        return Control(
            version=1,
            kind="control",
            number=self._state.number + 1,
            id=uuid.uuid4().hex,
            action=action,
            by="guardrail",
            at=round(time.time() * 1000),
            pinned=uniform if action == "pin" else None,
        )


def _is_on(state: ControlState) -> bool:
    """Does the guardrail have uniform weights used (beneath whatever an operator has pinned)?"""
    return any(pin.by == "guardrail" and pin.pinned is not None for pin in state.pins)
