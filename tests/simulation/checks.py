"""What must hold after every run, whatever went wrong in it."""

from __future__ import annotations

from typing import Any

from tests.simulation.answers_check import AnswersCheck
from tests.simulation.labels_check import LabelsCheck
from tests.simulation.workers import Fuser


def check(world: Any) -> None:
    """Compare everything that was written with what should have been; nothing is held any more."""
    answers = AnswersCheck(world)
    answers.check()
    LabelsCheck(world, answers.answers).check()
    for worker in world.running(Fuser):
        held = worker.producer.bytes_in_flight, len(worker.producer._sizes)
        if held != (0, 0):
            world.violation(f"{worker.process.name} still has {held[0]} bytes of {held[1]} batches in flight")
        for (_, number), partition in worker.owner.partitions.items():
            slots = partition.join.slots
            if slots.high - slots.low > slots.capacity or len(slots.slot_of) > slots.high - slots.low:
                world.violation(f"partition {number} remembers {len(slots.slot_of)} requests")
