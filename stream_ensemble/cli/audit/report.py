"""What an audit found, as a table for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct

from stream_ensemble.cli.audit.offenders import Named
from stream_ensemble.cli.audit.tally import Offence, Tally

_REQUESTS = {
    "requests": "",
    "complete": "every expected member answered",
    "partial": "the quorum did",
    "fallback": "answered by the prior",
    "expired": "no answer",
    "open": "not decided yet",
}
_PREDICTIONS = {
    "predictions": "",
    "used": "in the fused record of their request",
    "late": "came after the end",
    "unneeded": "came after an early decision",
    "duplicate": "a second one of the same member",
    "dead-lettered": "could not be used",
    "forwarded": "stood on the wrong partition",
    "held": "of requests not decided yet",
    "earlier": "older than the fused topic reaches back",
}
_LABELS = {
    "labels": "",
    "labels-applied": "learned",
    "labels-waiting": "wait for their fused record",
    "labels-superseded": "repeat or lose to another label of their request",
    "labels-dead-lettered": "could not be used",
    "labels-forwarded": "stood on the wrong partition",
    "labels-held": "not read yet",
}
#: Shown only where there are any.
_IF_ANY = ("open", "unneeded", "earlier", "labels-waiting")


class Report(Struct, kw_only=True):
    """The audit of one ensemble."""

    ensemble: str
    balances: bool
    since: str | None
    until: str | None
    counts: dict[str, int]
    dead_letter_reasons: dict[str, int]
    offences: dict[str, int]
    offenders: list[Named]
    seconds: float


def report(
    ensemble: str,
    tally: Tally,
    reasons: Counter[str],
    offenders: list[Named],
    window: tuple[str | None, str | None],
    seconds: float,
) -> Report:
    """Of one tally over all partitions."""
    return Report(
        ensemble=ensemble,
        balances=tally.balances,
        since=window[0],
        until=window[1],
        counts={name: count for name, count in sorted(tally.counts.items()) if count},
        dead_letter_reasons=dict(sorted(reasons.items())),
        offences={offence.name.lower().replace("_", "-"): n for offence, n in tally.offences.items()},
        offenders=offenders,
        seconds=round(seconds, 3),
    )


def table(report: Report, tally: Tally) -> Iterator[str]:
    """The lines of the table."""
    begin, end = report.since or "the beginning", report.until or "the end"
    yield f"ensemble {report.ensemble}, requests from {begin} to {end}"
    yield ""
    for block in (_REQUESTS, _PREDICTIONS, _LABELS):
        yield from _block(block, tally.counts)
        yield ""
    yield from _checks(report, tally)
    if report.balances:
        yield "The ledger balances."
        return
    yield "The ledger does NOT balance:"
    yield from _offences(report.offenders, tally)


def _block(block: dict[str, str], counts: Counter[str]) -> Iterator[str]:
    for place, (name, meaning) in enumerate(block.items()):
        count = counts[name]
        if not count and name in _IF_ANY:
            continue
        shown = name.removeprefix("labels-")
        line = f"{shown:<16}{count:>14,}" if place == 0 else f"  {shown:<14}{count:>14,}  {meaning}"
        if name == "open" and counts["overdue"]:
            line += f"; {counts['overdue']:,} past their deadline, so the fuser is behind or away"
        yield line


def _checks(report: Report, tally: Tally) -> Iterator[str]:
    counts = tally.counts
    yield f"component sources that stand where they are said to, with equal outputs: {counts['sources']:,}"
    if counts["sources-gone"]:
        yield f"  not looked at, as their predictions are gone or older: {counts['sources-gone']:,}"
    yield f"requests that lack a member, and whether it was there in time: {counts['absences-judged']:,}"
    if counts["absences-not-judged"]:
        yield (
            "  not judged (early, capacity, unreadable, or decided under other settings): "
            f"{counts['absences-not-judged']:,}"
        )
    yield f"labels learned, each once: {counts['labels-learned']:,}"
    if report.dead_letter_reasons:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.dead_letter_reasons.items())
        yield f"dead letters by reason: {reasons}"
    yield ""


def _offences(offenders: Sequence[Named], tally: Tally) -> Iterator[str]:
    for offence in Offence:
        count = tally.offences[offence]
        if count:
            yield f"  {count:,} {offence}"
            yield from (f"    {each}" for each in offenders if each.offence == offence)
