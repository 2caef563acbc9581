"""Requests and predictions of one bucket against the ledger's rules. Pure: arrays in, a tally out.

``requests = complete + partial + fallback + expired + open`` and every prediction has exactly one fate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_ensemble.cli.audit.rows import Rows, topics_of
from stream_ensemble.cli.audit.spill import Bucket
from stream_ensemble.cli.audit.tally import Offence, Tally
from stream_ensemble.cli.audit.terms import Terms, always_silent
from stream_ensemble.core.join.records import Answer, Cause, Status

_NEVER = np.iinfo(np.int64).max
_ONE = np.uint64(1)
#: Causes that let a request end before its deadline for reasons that the topics do not show.
_UNSEEN = (Cause.EARLY, Cause.UNREADABLE, Cause.CAPACITY)


def numbered(tables: Sequence[Rows]) -> tuple[list[NDArray[np.int64]], int]:
    """Each row's id as a number, the same in all tables, and how many ids there are."""
    return numbered_pairs([(rows["a"], rows["b"]) for rows in tables])


def numbered_pairs(tables: Sequence[tuple[Rows, Rows]]) -> tuple[list[NDArray[np.int64]], int]:
    """The same for pairs of numbers instead of ids."""
    a = np.concatenate([first for first, _ in tables])
    b = np.concatenate([second for _, second in tables])
    order = np.lexsort((b, a))
    new = np.ones(len(a), np.bool_)
    new[1:] = (a[order][1:] != a[order][:-1]) | (b[order][1:] != b[order][:-1])
    numbers = np.empty(len(a), np.int64)
    numbers[order] = np.cumsum(new) - 1
    ends = np.cumsum([len(first) for first, _ in tables])
    return np.split(numbers, ends[:-1]), int(new.sum())


def firsts(groups: NDArray[np.int64], places: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which rows have the lowest place of their group."""
    order = np.lexsort((places, groups))
    first = np.zeros(len(groups), np.bool_)
    if len(groups):
        first[order[np.append(True, np.diff(groups[order]) != 0)]] = True
    return first


def judge(bucket: Bucket, terms: Terms) -> Tally:
    """The ledger of the ids in one bucket of one partition."""
    view = _view(bucket, terms)
    tally = Tally()
    _count_requests(view, terms, tally)
    _check_sources(view, terms, tally)
    _count_predictions(view, terms, tally)
    _check_absences(view, terms, tally)
    return tally


@dataclass(slots=True)
class _View:
    """One bucket by number of id: N ids, P predictions, F first fused records.

    Attributes:
        began: append time of the first record that could open the request; ``_NEVER`` without one. N.
        end: the row of its first fused record, -1 without one. N.
        inside: whether it began between the audit's two times. N.
        used: predictions that a first fused record names as a source. P.
        late: predictions in the late topic. P.
        candidates: predictions that could be used: not dead, not beyond the lateness horizon. P.
        leading: those of them that could open the request: not of a member in shadow. P.
    """

    predictions: Rows
    requests: Rows
    fused: Rows
    components: Rows
    of_prediction: NDArray[np.int64]
    of_request: NDArray[np.int64]
    of_fused: NDArray[np.int64]
    of_component: NDArray[np.int64]
    began: NDArray[np.int64]
    end: NDArray[np.int64]
    inside: NDArray[np.bool_]
    used: NDArray[np.bool_]
    late: NDArray[np.bool_]
    candidates: NDArray[np.bool_]
    leading: NDArray[np.bool_]


def _view(bucket: Bucket, terms: Terms) -> _View:
    predictions, requests, fused = bucket["predictions"], bucket["requests"], bucket["fused"]
    components = bucket["components"]
    (p, r, f, c), count = numbered([predictions, requests, fused, components])
    candidates = ~predictions["dead"] & ~predictions["beyond"]
    leading = candidates
    if terms.shadows:
        leading = candidates & ~np.isin(predictions["member"], list(terms.shadows))
    began = np.full(count, _NEVER)
    np.minimum.at(began, p[leading], predictions["appended"][leading])
    asked = ~requests["dead"]
    np.minimum.at(began, r[asked], requests["appended"][asked])
    end = np.full(count, -1, np.int64)
    first = np.flatnonzero(firsts(f, fused["place"]))
    end[f[first]] = first
    of_first = np.zeros(len(components), np.bool_)
    ended = end[c] >= 0
    of_first[ended] = fused["place"][end[c[ended]]] == components["fused"][ended]
    late = np.isin(predictions["place"], bucket["late"]["place"])
    used = np.isin(predictions["place"], components["place"][of_first])
    return _View(
        predictions, requests, fused, components, p, r, f, c,
        began, end, _inside(began, terms), used, late, candidates, leading,
    )  # fmt: skip


def _inside(began: NDArray[np.int64], terms: Terms) -> NDArray[np.bool_]:
    if terms.since is None and terms.until is None:
        return np.ones(len(began), np.bool_)
    since = -_NEVER if terms.since is None else terms.since
    until = _NEVER if terms.until is None else terms.until
    return (began >= since) & (began < until)


def _count_requests(view: _View, terms: Terms, tally: Tally) -> None:
    ended = view.end >= 0
    count = len(view.end)
    opens = view.leading & ~view.late
    opened = _any(count, view.of_prediction[opens]) | _any(count, view.of_request[~view.requests["dead"]])
    decided = _any(count, view.of_prediction[opens & view.predictions["decided"]])
    decided |= _any(count, view.of_request[~view.requests["dead"] & view.requests["decided"]])
    before = _before_the_log(view.began, terms)

    requests = view.inside & (opened | ended)
    missing = requests & ~ended & decided & ~before
    tally.counts["requests"] += int((requests & (ended | ~before)).sum())
    for status in Status:
        of_status = view.fused["status"][view.end[requests & ended]] == status
        tally.counts[status.name.lower()] += int(of_status.sum())
    is_open = requests & ~ended & ~decided & ~before
    tally.counts["open"] += int(is_open.sum())
    overdue = is_open & (view.began + terms.deadline_ms < terms.newest)
    tally.counts["overdue"] += int(overdue.sum())
    tally.accuse(Offence.MISSING, terms.partition, _a_record_of(view, missing))

    again = np.ones(len(view.fused), np.bool_)
    again[view.end[ended]] = False
    twice = again & view.inside[view.of_fused]
    tally.accuse(Offence.TWICE, terms.partition, view.fused["place"][twice])
    if terms.whole:
        nothing = ended & (view.began == _NEVER)
        tally.accuse(Offence.OF_NOTHING, terms.partition, view.fused["place"][view.end[nothing]])
        unended = view.inside & ~ended & ~opened & _any(count, view.of_prediction[view.leading & view.late])
        tally.accuse(Offence.LATE_UNENDED, terms.partition, _a_record_of(view, unended))


def _check_sources(view: _View, terms: Terms, tally: Tally) -> None:
    components, predictions = view.components, view.predictions
    if not len(components):
        return
    order = np.argsort(predictions["place"], kind="stable")
    at = np.minimum(np.searchsorted(predictions["place"][order], components["place"]), len(order) - 1)
    found = np.zeros(len(components), np.bool_)
    target = order[at] if len(order) else at
    if len(order):
        found = (
            (predictions["place"][target] == components["place"])
            & (view.of_prediction[target] == view.of_component)
            & (predictions["member"][target] == components["member"])
        )
    inside = view.inside[view.of_component]
    wrong = inside & ~found & ~_gone(components["place"], terms)
    tally.accuse(Offence.WRONG_SOURCE, terms.partition, components["fused"][wrong])
    differs = inside & found
    differs[differs] = predictions["outputs"][target[differs]] != components["outputs"][differs]
    tally.accuse(Offence.OTHER_OUTPUT, terms.partition, components["fused"][differs])
    tally.counts["sources"] += int((inside & found).sum())
    tally.counts["sources-gone"] += int((inside & ~found & ~wrong).sum())


def _gone(places: NDArray[np.uint64], terms: Terms) -> NDArray[np.bool_]:
    """Places before the first record that was read."""
    begins = np.array([(topic << 57) | (first << 16) for topic, first in enumerate(terms.firsts)], np.uint64)
    topics = topics_of(places)
    known = topics < len(begins)
    gone = np.zeros(len(places), np.bool_)
    gone[known] = places[known] < begins[topics[known]]
    return gone


def _count_predictions(view: _View, terms: Terms, tally: Tally) -> None:
    predictions, of = view.predictions, view.of_prediction
    left = view.inside[of] | (predictions["dead"] & (terms.since is None))
    tally.counts["predictions"] += int(left.sum())

    def take(name: str, which: NDArray[np.bool_]) -> None:
        nonlocal left
        tally.counts[name] += int((left & which).sum())
        left = left & ~which

    both = left & view.used & view.late
    tally.accuse(Offence.USED_AND_LATE, terms.partition, predictions["place"][both])
    bit = _ONE << predictions["member"].astype(np.uint64)
    ended = view.end[of] >= 0
    end = np.where(ended, view.end[of], 0)
    fused = view.fused if len(view.fused) else np.zeros(1, view.fused.dtype)
    # The first of a member's answers to a request is the one that counts, among those that could.
    alone = view.candidates & ~view.late
    first = np.zeros(len(predictions), np.bool_)
    pairs = of[alone] * 64 + predictions["member"][alone]
    first[np.flatnonzero(alone)] = firsts(pairs, predictions["place"][alone])
    # Who was not expected, as in shadow, may have said that it has no output: then nothing is said of it.
    told = fused["missing"][end] | fused["unneeded"][end]
    asleep = ended & first & (told & bit == 0) & (predictions["answer"] != Answer.OUTPUT)
    unneeded = ended & (fused["unneeded"][end] & bit != 0)

    take("dead-lettered", predictions["dead"])
    take("used", view.used | asleep)
    take("late", view.late)
    take("unneeded", unneeded)
    take("duplicate", alone & ~first)
    take("held", ~predictions["decided"])
    take("earlier", _before_the_log(predictions["appended"], terms))
    # Those of a missing request are named with it.
    take("missing", ~ended & alone)
    tally.accuse(Offence.UNACCOUNTED, terms.partition, predictions["place"][left])
    tally.counts["unaccounted"] += int(left.sum())


def _check_absences(view: _View, terms: Terms, tally: Tally) -> None:
    """Was nobody left out who was there in time?"""
    fused = view.fused
    ends = view.end[(view.end >= 0) & view.inside]
    lacking = ends[(fused["status"][ends] == Status.COMPLETE) & (fused["missing"][ends] != 0)]
    tally.accuse(Offence.INCOMPLETE, terms.partition, fused["place"][lacking])
    unseen = np.isin(fused["cause"][ends], _UNSEEN)
    judged = fused["judged"][ends] & ~unseen
    has_missing = fused["missing"][ends] != 0
    tally.counts["absences-judged"] += int((has_missing & judged).sum())
    tally.counts["absences-not-judged"] += int((has_missing & ~judged).sum())

    predictions = view.predictions
    rows = np.flatnonzero(view.candidates & view.inside[view.of_prediction])
    rows = rows[view.end[view.of_prediction[rows]] >= 0]
    if not len(rows):
        return
    of = view.of_prediction[rows]
    end = view.end[of]
    member = predictions["member"][rows]
    absent = (fused["missing"][end] >> member.astype(np.uint64) & _ONE) != 0
    due = view.began[of] + _deadlines(view, terms)[of]
    in_time = absent & (predictions["appended"][rows] < due - terms.tolerance_ms)
    in_time &= fused["judged"][end] & ~np.isin(fused["cause"][end], _UNSEEN)
    silent = np.flatnonzero(in_time & (fused["cause"][end] == Cause.SILENT))
    for number in np.unique(member[silent]).tolist():
        some = silent[member[silent] == number]
        silences = terms.silences.get(number) or always_silent()
        least = terms.silence_after_ms - terms.tolerance_ms
        in_time[some] = ~silences.last(fused["appended"][end[some]], least)
    tally.accuse(Offence.UNJUSTIFIED, terms.partition, predictions["place"][rows[in_time]])


def _deadlines(view: _View, terms: Terms) -> NDArray[np.int64]:
    """Of each id: what its first requests record says, or the ensemble's."""
    deadlines = np.full(len(view.began), terms.deadline_ms, np.int64)
    first = np.flatnonzero(firsts(view.of_request, view.requests["place"]))
    own = first[view.requests["deadline_ms"][first] > 0]
    deadlines[view.of_request[own]] = view.requests["deadline_ms"][own]
    return deadlines


def _before_the_log(times: NDArray[np.int64], terms: Terms) -> NDArray[np.bool_]:
    """Records older than the fused topic reaches back: what became of them has expired with it."""
    if terms.fused_begins is None:
        return np.zeros(len(times), np.bool_)
    return times < terms.fused_begins


def _any(count: int, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    found = np.zeros(count, np.bool_)
    found[numbers] = True
    return found


def _a_record_of(view: _View, ids: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """One place for each id marked: that of a prediction or of its requests record."""
    places = np.zeros(len(ids), np.uint64)
    places[view.of_request] = view.requests["place"]
    places[view.of_prediction] = view.predictions["place"]
    return places[ids]
