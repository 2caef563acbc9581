"""What one owner does for all: it looks at what every partition learned, and orders by control records."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping

import msgspec

from stream_ensemble.core.learning.control import NOTHING, joined
from stream_ensemble.errors import StreamEnsembleError
from stream_ensemble.kafka.transactional_output import Outgoing
from stream_ensemble.learner.ensemble import LearnedEnsemble
from stream_ensemble.messages import Control
from stream_ensemble.stores.contributions import ContributionStore, Key, Stored
from stream_ensemble.stores.control_state import CONTROLS, state_of

log = logging.getLogger(__name__)

_LOOK_S = 1.0


class Watch(ABC):
    """Looks once a second at the contributions of all partitions in Redis, and decides.

    What it decides is sent in the owner's next transaction, to every partition. A later owner sees by the
    control state what was decided before; an order sent twice comes to the same.

    Args:
        contributions: where all owners publish.
    """

    def __init__(self, ensemble: LearnedEnsemble, contributions: ContributionStore) -> None:
        self._ensemble = ensemble
        self._store = contributions
        self._state = NOTHING

    async def run(self) -> None:
        """Look and decide, until cancelled. While Redis is away nothing is decided."""
        while True:
            try:
                await self.look()
            except StreamEnsembleError as error:
                what = type(self).__name__.lower()
                log.debug("the %s of %s does not see the weights: %s", what, self._ensemble.name, error)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Look once; a decision waits until it is asked for.

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
        self._decide(snapshot.fields[key])

    @abstractmethod
    def _decide(self, fields: Mapping[int, Stored]) -> None:
        """Decide by the contributions to the whole, by partition; ``_state`` is the newest control state."""

    def _to_everybody(self, control: Control) -> list[Outgoing]:
        value = msgspec.json.encode(control)
        partitions = range(self._ensemble.config.partitions)
        return [Outgoing(self._ensemble.feedback(p), None, value) for p in partitions]
