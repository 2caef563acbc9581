"""Labels in RocksDB: one database per partition, a few megabytes of memory, one write batch per flush.

Keys, by their first byte: ``a`` answer by request id, ``v`` verdict by label key, ``b`` credit block by
digest, ``t`` what shadows said late by request id; ``A``, ``V``, ``B``, ``T`` lists of the same by the oldest
time in each, for expiry; ``P`` parked labels by time; ``=`` the position.
Times are eight bytes, the most significant first, so that the order of keys is the order of time.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from struct import Struct as Layout

import msgspec
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from stream_ensemble.core.labels.changes import Changes
from stream_ensemble.core.labels.keys import from_bytes, to_bytes
from stream_ensemble.core.labels.records import Answer, Verdict
from stream_ensemble.errors import StateError
from stream_ensemble.messages import CreditBlock, Trial
from stream_ensemble.stores.labels import Position, newest

_POSITION = b"="
_TIME = Layout(">Q")
_ANSWER = Layout(">QQ")
_encode = msgspec.msgpack.Encoder().encode
_decode_verdict = msgspec.msgpack.Decoder(Verdict).decode
_decode_block = msgspec.msgpack.Decoder(tuple[int, CreditBlock]).decode
_decode_trials = msgspec.msgpack.Decoder(dict[str, Trial]).decode
_decode_list = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
_decode_position = msgspec.msgpack.Decoder(Position).decode

#: Names in one list by time: a key and a value for each would cost as much as what they name.
_LISTED = 1000
#: What RocksDB calls its files, and what it will write into the next ones.
_SIZES = ("rocksdb.total-sst-files-size", "rocksdb.cur-size-all-mem-tables")
#: How many directories are tried: a stopped process keeps its lock, and its successor must not wait for it.
_DIRECTORIES = 16


class RocksLabelStore:
    """A ``LabelStore`` on disk.

    Args:
        path: directory of this store, made if missing. One process at a time.

    Raises:
        StateError: another process holds the directory.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._db = _open(path)
        self._swept: dict[bytes, int] = {}
        self._parked_count = sum(1 for _ in self._scan(b"P", None))
        self._has_trials = any(True for _ in self._scan(b"T", None))

    def position(self) -> Position | None:
        """See ``LabelStore``."""
        raw = self._db.get(_POSITION)
        return None if raw is None else _decode_position(raw)

    def answer(self, request_id: str) -> Answer | None:
        """See ``Known``."""
        raw = self._db.get(b"a" + request_id.encode())
        return None if raw is None else _answer(raw)

    def verdict(self, key: str) -> Verdict | None:
        """See ``Known``."""
        raw = self._db.get(b"v" + to_bytes(key))
        return None if raw is None else _decode_verdict(raw)

    def look_up(self, keys: Sequence[str]) -> list[tuple[Verdict | None, Answer | None]]:
        """See ``Known``."""
        names = [to_bytes(key) for key in keys]
        verdicts = self._db.get([b"v" + name for name in names])
        answers = self._db.get([b"a" + name for name in names])
        return [
            (raw and _decode_verdict(raw), None if kept is None else _answer(kept))
            for raw, kept in zip(verdicts, answers, strict=True)
        ]

    def block(self, digest: str) -> CreditBlock | None:
        """See ``Known``."""
        raw = self._db.get(b"b" + digest.encode())
        return None if raw is None else _decode_block(raw)[1]

    def parked(self, appended_before: int, limit: int) -> list[tuple[str, Verdict]]:
        """See ``Known``."""
        found: list[tuple[str, Verdict]] = []
        for key in self._scan(b"P", appended_before):
            if len(found) == limit:
                break
            label = from_bytes(key[9:])
            verdict = self.verdict(label)
            if verdict is not None:
                found.append((label, verdict))
        return found

    def parked_count(self) -> int:
        """See ``Known``."""
        return self._parked_count

    def trials(self, request_id: str) -> dict[str, Trial]:
        """See ``Known``."""
        raw = self._db.get(b"t" + request_id.encode())
        return {} if raw is None else _decode_trials(raw)

    def has_trials(self) -> bool:
        """See ``Known``."""
        return self._has_trials

    def write(self, changes: Changes, position: Position) -> None:
        """See ``LabelStore``."""
        batch = WriteBatch(raw_mode=True)
        times: list[tuple[int, bytes]] = []
        for request_id, answer in changes.answers.items():
            name = request_id.encode()
            batch.put(b"a" + name, _ANSWER.pack(answer.offset, answer.appended) + answer.value)
            times.append((answer.appended, name))
        self._list(batch, b"A", times)
        times = []
        for digest, (carried, block) in changes.blocks.items():
            batch.put(b"b" + digest.encode(), _encode((carried, block)))
            times.append((carried, digest.encode()))
        self._list(batch, b"B", times)
        parked = self._parked_count + self._put_verdicts(batch, changes)
        times = []
        for request_id, late in changes.late.items():
            name = request_id.encode()
            batch.put(b"t" + name, _encode({**self.trials(request_id), **late}))
            times.append((newest(late), name))
        self._list(batch, b"T", times)
        batch.put(_POSITION, _encode(position))
        self._db.write(batch)
        self._parked_count = parked
        self._has_trials = self._has_trials or bool(changes.late)

    def expire(self, appended_before: int, limit: int) -> int:
        """See ``LabelStore``."""
        batch = WriteBatch(raw_mode=True)
        gone = self._expire(batch, b"A", (appended_before, limit), lambda raw: _ANSWER.unpack_from(raw)[1])
        self._expire(batch, b"V", (appended_before, limit), _learned_at)
        self._expire(batch, b"B", (appended_before, limit), lambda raw: _decode_block(raw)[0])
        if self._has_trials:
            self._expire(batch, b"T", (appended_before, limit), lambda raw: newest(_decode_trials(raw)))
        self._db.write(batch)
        return gone

    def stored_bytes(self) -> int:
        """See ``LabelStore``: files, and what is on its way into one."""
        return sum(self._db.property_int_value(name) or 0 for name in _SIZES)

    def clear(self) -> None:
        """See ``LabelStore``."""
        self._db.close()
        shutil.rmtree(self._path)
        self._db = _open(self._path)
        self._swept.clear()
        self._parked_count = 0
        self._has_trials = False

    def close(self) -> None:
        """See ``LabelStore``."""
        self._db.close()

    def _put_verdicts(self, batch: WriteBatch, changes: Changes) -> int:
        """Put verdicts and their places in time; returns by how much the number of parked labels grew."""
        for key, before in changes.unparked.items():
            batch.delete(self._by_time(b"P", before, to_bytes(key)))
        grew, times = -len(changes.unparked), []
        for key, verdict in changes.verdicts.items():
            name = to_bytes(key)
            if verdict is None:
                batch.delete(b"v" + name)
                continue
            batch.put(b"v" + name, _encode(verdict))
            if verdict.learned:
                times.append((verdict.appended, name))
            else:
                batch.put(self._by_time(b"P", verdict.appended, name), b"")
                grew += 1
        self._list(batch, b"V", times)
        return grew

    def _list(self, batch: WriteBatch, kind: bytes, times: Sequence[tuple[int, bytes]]) -> None:
        """Put names by time, in lists, each at its oldest."""
        # No two keys are alike: every batch writes something, so the sequence grows with it.
        number = self._db.latest_sequence_number()
        for begin in range(0, len(times), _LISTED):
            some = times[begin : begin + _LISTED]
            place = _TIME.pack(number) + _TIME.pack(begin)
            batch.put(self._by_time(kind, min(some)[0], place), _encode(some))

    def _expire(
        self, batch: WriteBatch, kind: bytes, bounds: tuple[int, int], time_of: Callable[[bytes], int | None]
    ) -> int:
        """Delete what is older than the first of ``bounds``, looking at no more names than the second;
        returns how many went.

        Args:
            time_of: when what stands under a name expires; None: never, or not by this list.
        """
        before, left = bounds
        gone, stay = 0, []
        for key, listed in self._lists(kind, before):
            due = [name for time, name in listed if time < before][:left]
            # Who comes last goes on being listed where the limit is reached.
            taken = set(due)
            stay += [item for item in listed if item[0] >= before or item[1] not in taken]
            left -= len(due)
            for name, raw in zip(due, self._db.get([kind.lower() + name for name in due]), strict=True):
                time = None if raw is None else time_of(raw)
                # What was written again since stands in a newer list too.
                if time is not None and time < before:
                    batch.delete(kind.lower() + name)
                    gone += 1
            batch.delete(key)
            if not left:
                break
        self._list(batch, kind, stay)
        return gone

    def _lists(self, kind: bytes, before: int) -> Iterator[tuple[bytes, list[tuple[int, bytes]]]]:
        """Lists that hold something older, oldest first, by key: times and names."""
        for key in self._scan(kind, before):
            value = self._db.get(key)
            # Older versions had a key for each name.
            yield key, _decode_list(value) if value else [(_TIME.unpack_from(key, 1)[0], key[9:])]

    def _scan(self, kind: bytes, before: int | None) -> Iterator[bytes]:
        """Keys of one kind by time, oldest first, up to ``before`` (ms)."""
        end = kind + (b"\xff" * 9 if before is None else _TIME.pack(max(0, before)))
        rows = self._db.iter()
        # Not from the very beginning: the deleted keys there would be stepped over again and again.
        rows.seek(kind + _TIME.pack(self._swept.get(kind, 0)))
        first = True
        while rows.valid():
            key: bytes = rows.key()
            if first:
                first = False
                self._swept[kind] = _TIME.unpack_from(key, 1)[0] if key[:1] == kind else 0
            if key >= end:
                return
            yield key
            rows.next()

    def _by_time(self, kind: bytes, time: int, name: bytes) -> bytes:
        self._swept[kind] = min(time, self._swept.get(kind, 0))
        return kind + _TIME.pack(time) + name


def open_label_store(directory: Path) -> RocksLabelStore:
    """The first store under ``directory`` that no other process holds.

    Raises:
        StateError: all of them are held.
    """
    for number in range(_DIRECTORIES):
        with contextlib.suppress(StateError):
            return RocksLabelStore(directory / str(number))
    raise StateError(f"{directory}: {_DIRECTORIES} other processes hold a label store here")


def _open(path: Path) -> Rdict:
    try:
        return Rdict(str(path), _options())
    except Exception as error:  # rocksdict has no exception of its own
        if "lock" in str(error).lower():
            raise StateError(f"{path}: held by another process ({error})") from error
        if not path.exists():
            raise
        # A cache that cannot be opened is as good as none.
        shutil.rmtree(path)
        return Rdict(str(path), _options())


def _options() -> Options:
    """Small buffers: a process may own many partitions."""
    blocks = BlockBasedOptions()
    blocks.set_bloom_filter(10, False)
    blocks.set_block_cache(Cache(8 << 20))
    options = Options(raw_mode=True)
    options.set_block_based_table_factory(blocks)
    # Digits of numbers and ids, which hardly shrink; packing and unpacking them would cost more than reading.
    options.set_compression_type(DBCompressionType.none())
    options.set_write_buffer_size(8 << 20)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    return options


def _answer(raw: bytes) -> Answer:
    offset, appended = _ANSWER.unpack_from(raw)
    return Answer(offset, appended, raw[_ANSWER.size :])


def _learned_at(raw: bytes) -> int | None:
    verdict = _decode_verdict(raw)
    return verdict.appended if verdict.learned else None
