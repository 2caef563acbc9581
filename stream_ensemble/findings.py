"""What ``stream-ensemble check`` found wrong, and the command or setting that repairs it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that is wrong (``error``) or risky (``warning``)."""

    level: Literal["error", "warning"]
    #: What it is about: a topic, the brokers, Redis.
    subject: str
    problem: str
    #: A command to run or a setting to change.
    repair: str

    def __str__(self) -> str:
        return f"{self.level}: {self.subject}: {self.problem}\n    repair: {self.repair}"
