"""One partition's contributions by segment: there may be 100,000, so those of segments are packed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from stream_ensemble.core.learning.contribution import Contribution, from_bytes, to_bytes


class BySegment(Mapping[str | None, Contribution]):
    """Contributions by segment (None: the whole). Not to be changed.

    A segment's is kept as the bytes that stand in Redis, a sixth of what its arrays take, and unpacked
    whenever it is asked for.
    """

    def __init__(self, parts: Mapping[str | None, Contribution] | None = None) -> None:
        self._whole: Contribution | None = None
        self._packed: dict[str, bytes] = {}
        if parts:
            self._set(parts)

    def __getitem__(self, segment: str | None) -> Contribution:
        if segment is not None:
            return from_bytes(self._packed[segment])
        if self._whole is None:
            raise KeyError(segment)
        return self._whole

    def __iter__(self) -> Iterator[str | None]:
        if self._whole is not None:
            yield None
        yield from self._packed

    def __len__(self) -> int:
        return len(self._packed) + (self._whole is not None)

    def __contains__(self, segment: object) -> bool:
        return self._whole is not None if segment is None else segment in self._packed

    def packed(self, segment: str | None) -> bytes:
        """A contribution as it stands in Redis."""
        return to_bytes(self[None]) if segment is None else self._packed[segment]

    def with_(self, parts: Mapping[str | None, Contribution]) -> BySegment:
        """The same with these in place of the ones before."""
        after = BySegment()
        after._whole, after._packed = self._whole, dict(self._packed)
        after._set(parts)
        return after

    def only(self, segments: Iterable[str | None]) -> BySegment:
        """These of them."""
        some = BySegment()
        for segment in segments:
            if segment is None:
                some._whole = self._whole
            else:
                some._packed[segment] = self._packed[segment]
        return some

    def _set(self, parts: Mapping[str | None, Contribution]) -> None:
        for segment, part in parts.items():
            if segment is None:
                self._whole = part
            else:
                self._packed[segment] = to_bytes(part)


def by_segment(packed: Mapping[str | None, bytes]) -> BySegment:
    """Contributions from the bytes that stand in Redis.

    Raises:
        StateError: the whole's cannot be read.
    """
    parts = BySegment()
    for segment, raw in packed.items():
        if segment is None:
            parts._whole = from_bytes(raw)
        else:
            parts._packed[segment] = raw
    return parts
