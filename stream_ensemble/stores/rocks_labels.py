"""Labels in RocksDB: one database per partition, a few megabytes of memory, one write batch per flush.

Keys, by their first byte: ``a`` answer by request id, ``v`` verdict by request id, ``b`` credit block by
digest, ``t`` what shadows said late by request id; ``A``, ``V``, ``B``, ``T`` the same by time, for expiry;
``P`` parked labels by time; ``=`` the position.
Times are eight bytes, the most significant first, so that the order of keys is the order of time.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from struct import Struct as Layout

import msgspec
from rocksdict import BlockBasedOptions, Cache, DBCompressionType, Options, Rdict, WriteBatch

from stream_ensemble.core.labels.changes import Changes
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
_decode_position = msgspec.msgpack.Decoder(Position).decode

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

    def verdict(self, request_id: str) -> Verdict | None:
        """See ``Known``."""
        raw = self._db.get(b"v" + request_id.encode())
        return None if raw is None else _decode_verdict(raw)

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
            request_id = key[9:].decode()
            verdict = self.verdict(request_id)
            if verdict is not None:
                found.append((request_id, verdict))
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
        for request_id, answer in changes.answers.items():
            name = request_id.encode()
            batch.put(b"a" + name, _ANSWER.pack(answer.offset, answer.appended) + answer.value)
            batch.put(self._by_time(b"A", answer.appended, name), b"")
        for digest, (carried, block) in changes.blocks.items():
            batch.put(b"b" + digest.encode(), _encode((carried, block)))
            batch.put(self._by_time(b"B", carried, digest.encode()), b"")
        parked = self._parked_count
        for request_id, verdict in changes.verdicts.items():
            parked += self._put_verdict(batch, request_id, verdict)
        for request_id, late in changes.late.items():
            name = request_id.encode()
            batch.put(b"t" + name, _encode({**self.trials(request_id), **late}))
            batch.put(self._by_time(b"T", newest(late), name), b"")
        batch.put(_POSITION, _encode(position))
        self._db.write(batch)
        self._parked_count = parked
        self._has_trials = self._has_trials or bool(changes.late)

    def expire(self, appended_before: int, limit: int) -> int:
        """See ``LabelStore``."""
        batch = WriteBatch(raw_mode=True)
        gone = 0
        for key in self._scan(b"A", appended_before):
            if gone == limit:
                break
            answer = self.answer(key[9:].decode())
            if answer is not None and answer.appended < appended_before:
                batch.delete(b"a" + key[9:])
            batch.delete(key)
            gone += 1
        self._expire_verdicts(batch, appended_before, limit)
        self._expire_blocks(batch, appended_before, limit)
        self._expire_trials(batch, appended_before, limit)
        self._db.write(batch)
        return gone

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

    def _put_verdict(self, batch: WriteBatch, request_id: str, verdict: Verdict | None) -> int:
        """Put a verdict and its place in time; returns by how much the number of parked labels grew."""
        name = request_id.encode()
        grew = 0
        before = self.verdict(request_id)
        if before is not None and not before.learned:
            batch.delete(self._by_time(b"P", before.appended, name))
            grew -= 1
        if verdict is None:
            batch.delete(b"v" + name)
            return grew
        batch.put(b"v" + name, _encode(verdict))
        batch.put(self._by_time(b"V" if verdict.learned else b"P", verdict.appended, name), b"")
        return grew + (not verdict.learned)

    def _expire_verdicts(self, batch: WriteBatch, appended_before: int, limit: int) -> None:
        for _, key in zip(range(limit), self._scan(b"V", appended_before), strict=False):
            verdict = self.verdict(key[9:].decode())
            if verdict is not None and verdict.learned and verdict.appended < appended_before:
                batch.delete(b"v" + key[9:])
            batch.delete(key)

    def _expire_blocks(self, batch: WriteBatch, appended_before: int, limit: int) -> None:
        for _, key in zip(range(limit), self._scan(b"B", appended_before), strict=False):
            raw = self._db.get(b"b" + key[9:])
            if raw is not None and _decode_block(raw)[0] < appended_before:
                batch.delete(b"b" + key[9:])
            batch.delete(key)

    def _expire_trials(self, batch: WriteBatch, appended_before: int, limit: int) -> None:
        if not self._has_trials:
            return
        for _, key in zip(range(limit), self._scan(b"T", appended_before), strict=False):
            late = self.trials(key[9:].decode())
            if late and newest(late) < appended_before:
                batch.delete(b"t" + key[9:])
            batch.delete(key)

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
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(8 << 20)
    options.set_max_open_files(256)
    options.set_keep_log_file_num(2)
    return options


def _answer(raw: bytes) -> Answer:
    offset, appended = _ANSWER.unpack_from(raw)
    return Answer(offset, appended, raw[_ANSWER.size :])
