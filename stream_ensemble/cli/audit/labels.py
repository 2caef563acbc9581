"""Labels of one bucket: each is applied once, waits, or is kept aside. Pure: arrays in, a tally out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.audit.requests import firsts, numbered, numbered_pairs
from stream_ensemble.cli.audit.rows import Rows
from stream_ensemble.cli.audit.spill import Bucket
from stream_ensemble.cli.audit.tally import Offence, Tally


def judge(bucket: Bucket, partition: int, generation: int = 0) -> Tally:
    """Counts of labels.

    ``taught`` are those that must count in n: learned against an answer of this generation and these
    settings. Of others (the answer is gone, a reset or another algorithm came between) it is not known:
    ``taught-perhaps``.

    Args:
        generation: of the newest contribution.
    """
    tally = Tally()
    feedback, applied, fused = bucket["feedback"], bucket["applied"], bucket["fused"]
    (request_of_label, request_of_applied, of_fused), requests = numbered([feedback, applied, fused])
    # A request of parts has a label for each: what they are numbered by is the pair.
    (of_label, of_applied), count = numbered_pairs(
        [(request_of_label, feedback["part"]), (request_of_applied, applied["part"])]
    )
    request_of = np.zeros(count, np.int64)
    request_of[of_label], request_of[of_applied] = request_of_label, request_of_applied
    current = np.full(count, -1, np.int64)
    if len(applied):
        # The last word on each request: places count down from the end.
        last = np.flatnonzero(firsts(of_applied, ~applied["place"]))
        current[of_applied[last]] = last
    learned = np.zeros(count, np.bool_)
    stands = current >= 0
    learned[stands] = applied["learned"][current[stands]]
    ours = np.zeros(count, np.bool_)
    ours[stands] = applied["generation"][current[stands]] == generation
    first = np.flatnonzero(firsts(of_fused, fused["place"]))
    teaches = np.zeros(requests, np.bool_)
    teaches[of_fused[first]] = fused["teaches"][first]
    perhaps = np.ones(requests, np.bool_)
    perhaps[of_fused[first]] = fused["teaches"][first] & ~fused["judged"][first]
    teaches, perhaps = teaches[request_of], perhaps[request_of]
    perhaps |= teaches & ~ours
    tally.counts["labels-learned"] += int(learned.sum())
    tally.counts["taught"] += int((learned & teaches & ~perhaps).sum())
    tally.counts["taught-perhaps"] += int((learned & perhaps).sum())
    _learned_twice(applied, of_applied, partition, tally)
    _fates(feedback, of_label, applied, current, partition, tally)
    return tally


def _learned_twice(applied: Rows, of: NDArray[np.int64], partition: int, tally: Tally) -> None:
    rows = np.flatnonzero(applied["learned"])
    order = rows[
        np.lexsort((applied["place"][rows], applied["origin"][rows], applied["partition"][rows], of[rows]))
    ]
    if not len(order):
        return
    same = np.ones(len(order) - 1, np.bool_)
    for column in (of, applied["partition"], applied["origin"]):
        same &= column[order][1:] == column[order][:-1]
    tally.accuse(Offence.LEARNED_TWICE, partition, applied["place"][order[1:][same]])


def _fates(
    feedback: Rows,
    of: NDArray[np.int64],
    applied: Rows,
    current: NDArray[np.int64],
    partition: int,
    tally: Tally,
) -> None:
    left = np.ones(len(feedback), np.bool_)
    tally.counts["labels"] += len(feedback)

    def take(name: str, which: NDArray[np.bool_]) -> None:
        nonlocal left
        tally.counts[name] += int((left & which).sum())
        left = left & ~which

    known = current[of] >= 0
    verdict = applied[current[of]] if len(applied) else np.zeros(len(feedback), applied.dtype)
    known &= ~verdict["gone"]
    its = known & (verdict["origin"] == feedback["origin"]) & (verdict["partition"] == feedback["partition"])
    take("labels-dead-lettered", feedback["dead"])
    take("labels-applied", its & verdict["learned"])
    take("labels-waiting", its)
    take("labels-superseded", known & _not_above(feedback, verdict))
    take("labels-held", ~feedback["decided"])
    tally.accuse(Offence.LABEL_LOST, partition, feedback["place"][left])


def _not_above(feedback: Rows, verdict: Rows) -> NDArray[np.bool_]:
    """Labels that lose to the verdict: by revision, then by append time."""
    lower = feedback["revision"] < verdict["revision"]
    same = feedback["revision"] == verdict["revision"]
    found: NDArray[np.bool_] = lower | (same & (feedback["appended"] <= verdict["appended"]))
    return found


def count_offence(tally: Tally, partition: int, n: int | None) -> None:
    """Hold the labels that count, in a partition's whole tally, against the n of its contribution.

    Args:
        n: labels learned, as the newest record of the weights topic says; None without one.
    """
    least = tally.counts["taught"]
    most = least + tally.counts["taught-perhaps"]
    if not least <= (n or 0) <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        tally.accuse(Offence.COUNT, partition, [0], f"n is {n or 0}, labels applied that count: {expected}")
