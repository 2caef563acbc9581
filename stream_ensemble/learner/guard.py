"""The guardrail at work: one owner looks at what all have learned, and switches by control records."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from typing import Literal

import msgspec

from stream_ensemble.core.learning.control import NOTHING, joined
from stream_ensemble.core.learning.guardrail import Judged, Thresholds, judged
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.learner.output import Outgoing
from stream_ensemble.messages import Control, ControlState, PinnedWeights
from stream_ensemble.stores.contributions import ContributionStore, Key
from stream_ensemble.stores.control_state import CONTROLS, state_of
from stream_ensemble.stores.whole import whole_of

log = logging.getLogger(__name__)

_LOOK_S = 1.0


def guards(ensemble: LearnedEnsemble, partition: int) -> bool:
    """Is it this partition's owner that keeps the guardrail?"""
    return ensemble.config.learning.guardrail.enabled and partition == 0


class Guard:
    """Looks once a second at the contributions of all partitions in Redis, and decides.

    What it decides is sent in the owner's next transaction, to every partition. A later owner sees by the
    control state what was decided before; sent twice it comes to the same.

    Args:
        contributions: where all owners publish.

    Attributes:
        judged: the newest judgement; None: there is none yet.
    """

    def __init__(self, ensemble: LearnedEnsemble, contributions: ContributionStore) -> None:
        self.judged: Judged | None = None
        settings = ensemble.config.learning.guardrail
        self._thresholds = Thresholds(settings.least_labels, settings.worse_by, settings.back_at)
        self._ensemble = ensemble
        self._store = contributions
        self._state = NOTHING
        self._sent = 0
        self._decided: Control | None = None

    async def run(self) -> None:
        """Look and decide, until cancelled. While Redis is away nothing is switched."""
        while True:
            try:
                await self.look()
            except StreamEnsembleError as error:
                log.debug("the guardrail of %s does not see the weights: %s", self._ensemble.name, error)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Look once; a decision waits for :meth:`switches`.

        Raises:
            ServerUnavailableError: Redis does not answer.
            StateError: a contribution in it cannot be read.
        """
        key = Key(self._ensemble.task)
        snapshot = await self._store.read([key, CONTROLS])
        complete = {p for p, marker in snapshot.markers.items() if marker.complete}
        if snapshot.damaged or not complete >= set(range(self._ensemble.config.partitions)):
            return
        state, _ = state_of(snapshot.fields[CONTROLS])
        self._state = joined((self._state, state))
        self.judged = judged(whole_of(self._ensemble.algorithm, snapshot.fields[key]))
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
        value = msgspec.json.encode(control)
        partitions = range(self._ensemble.config.partitions)
        return [Outgoing(self._ensemble.feedback(p), None, value) for p in partitions]

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
