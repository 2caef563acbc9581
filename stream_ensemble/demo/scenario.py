"""What happens in the demo, fixed before any run; only the seed of the stream and of the delays can be
chosen.

Chosen once, by simulation without Kafka over seeds 0 to 4, so that models differ and none dominates: each
member trains on its own
part of the training rows, so that the errors of two members have little in common, and every request is
shifted and noisy, so that
nobody is nearly perfect. The faulty member is the one with the lowest log loss on the validation rows (a test
trains all and looks).
"""

from __future__ import annotations

from dataclasses import dataclass

#: The name of the ensemble, and with it of its topics.
ENSEMBLE = "digits"
MEMBERS = ("logistic", "forest", "neighbours", "kernel", "network")
CLASSES = tuple("0123456789")

REQUESTS = 3780
SECONDS = 54.0

#: The best member, whose input is corrupted from this share of the requests on.
FAULTY = "kernel"
FAULT_AT = 0.5
#: This worker is killed with SIGKILL at this share of the requests, and started again at the next.
KILLED = "forest"
KILL_AT = 0.70
RESTART_AT = 0.76

#: Labels come after a lognormal delay with this median (s) and spread; this share never comes.
LABEL_MEDIAN_S = 3.0
LABEL_SIGMA = 0.4
LABEL_NEVER = 0.10

#: An answer waits this long for a missing member.
DEADLINE_MS = 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: how many requests, over how long, from which seed."""

    requests: int = REQUESTS
    seconds: float = SECONDS
    seed: int = 0

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    def number_at(self, share: float) -> int:
        """The request at a share of the stream."""
        return int(self.requests * share)


def request_id(seed: int, number: int) -> str:
    """Names request ``number`` of the stream of ``seed``."""
    return f"demo-{seed}-{number:06d}"


def number_of(request: str) -> int:
    """The number in a :func:`request_id`."""
    return int(request.rpartition("-")[2])
