"""A consumer that knows nothing of its topics asks again until it does.

aiokafka asks for the metadata of new topics once. Where that fails, as the brokers are away just then, it
asks again when what it has is old, after five minutes. Until then whoever leads the group knows of no
partition, and everybody is assigned none: one worker started at the wrong moment stops all of them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.errors import KafkaError

log = logging.getLogger(__name__)

LOOK_S = 1.0


async def look_for_missing_topics(client: Any, every_s: float = LOOK_S) -> None:
    """Ask for the metadata of topics of which there is none; until cancelled.

    Args:
        client: aiokafka's, of a consumer; in whose event loop this runs.
    """
    told: set[str] = set()
    while True:
        await asyncio.sleep(every_s)
        missing = {topic for topic in client._topics if not client.cluster.partitions_for_topic(topic)}
        if missing - told:
            log.warning("the brokers have told nothing of %s yet; asking again", ", ".join(sorted(missing)))
        told = missing
        if missing:
            try:
                await client.force_metadata_update()
            except KafkaError as error:
                log.info("asking for the metadata of topics failed: %r", error)
